"""A sweep of 128 training runs in one call.

A gradtx transformation is a pytree, and its hyperparameters are leaves. So `jax.vmap` over learning rate and weight
decay trains 16 x 8 models at once, in one compiled program. The picture shows the loss of each model on images that it
has not seen. The model is a linear classifier of handwritten digits, trained with AdamW on 100 images.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.datasets import load_digits

import gradtx as gx
from examples.textbook import page

FORMULAS = [
    page.Formula(
        r"w_{t+1} = w_t - \eta \left(\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda w_t\right)",
        "AdamW with learning rate eta and weight decay lambda, which are the two axes.",
        "Loshchilov and Hutter, 2019, Decoupled Weight Decay Regularization, algorithm 2",
        "https://arxiv.org/abs/1711.05101",
    ),
    page.Formula(
        r"L_{ij} = L_{\text{test}}\left(w_T(\eta_j, \lambda_i)\right), \quad j = 1 \dots 16,\; i = 1 \dots 8",
        "One training run for each cell. All start from the same weights.",
        "Bergstra and Bengio, 2012, Random Search for Hyper-Parameter Optimization (on grids, and what is better)",
        "https://www.jmlr.org/papers/v13/bergstra12a.html",
    ),
]

STEPS = 200
IMAGES = 100
RATES = np.geomspace(1e-3, 10.0, 16)
DECAYS = np.array([0.0, *np.geomspace(1e-3, 1.0, 7)])


class Data(NamedTuple):
    images: Array
    labels: Array


def load() -> tuple[Data, Data]:
    """Loads training images and test images, with their labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order])
    return Data(images[:IMAGES], labels[:IMAGES]), Data(images[IMAGES:], labels[IMAGES:])


def loss(weights: Array, data: Data) -> Array:
    scores = jax.nn.log_softmax(data.images @ weights)
    return -jnp.take_along_axis(scores, data.labels[:, None], axis=1).mean()


def train(tx: gx.GradientTransformation, train_data: Data, test_data: Data) -> Array:
    """Trains with `tx`, and returns the loss on the test images."""
    step = gx.value_and_step(loss, tx)
    weights = jnp.zeros((64, 10))

    def body(carry: Any, _: None) -> Any:
        weights, state, _ = step(*carry, train_data)
        return (weights, state), None

    (weights, _), _ = jax.lax.scan(body, (weights, tx.init(weights)), length=STEPS)
    return loss(weights, test_data)


def compute() -> np.ndarray:
    """Returns the test loss of each run: a row for each weight decay, a column for each learning rate."""
    data = load()

    def run(rate: Array, decay: Array) -> Array:
        return train(gx.adamw(rate, weight_decay=decay), *data)

    sweep = jax.vmap(jax.vmap(run, in_axes=(0, None)), in_axes=(None, 0))
    return np.asarray(jax.jit(sweep)(jnp.asarray(RATES), jnp.asarray(DECAYS)))


def draw(values: np.ndarray) -> Any:
    return gx.viz.plot_sweep(values, RATES, DECAYS, label="test loss")


def conclusion(values: np.ndarray) -> str:
    row, column = np.unravel_index(np.nanargmin(values), values.shape)
    return (
        f"Of {values.size} runs of AdamW in one vmapped call, the one with learning rate {RATES[column]:.2g} and "
        f"weight decay {DECAYS[row]:.2g} has the lowest test loss, {values[row, column]:.3f}; without weight decay the "
        f"best is {np.nanmin(values[0]):.3f}."
    )


if __name__ == "__main__":
    page.main(__file__)
