"""A range test finds the learning rate.

The learning rate grows at every step of a short training run, from far too small to far too large. The loss is flat at
first, then it falls, and at last it diverges. The suggested learning rate is where the loss falls most steeply.

The squares check the suggestion. Each square is a separate training run with a constant learning rate; its height is
the mean loss of the last steps. One vmapped call trains all these runs. The model is a small network on handwritten
digits.
"""

from __future__ import annotations

from functools import partial
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
        r"\eta_t = \eta_{\text{low}} \left(\frac{\eta_{\text{high}}}{\eta_{\text{low}}}\right)^{t / (T - 1)}",
        "The learning rate of step t. It is replaced at every step; nothing is compiled anew.",
        "Smith, 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3 (there it grows linearly)",
        "https://arxiv.org/abs/1506.01186",
    ),
    page.Formula(
        r"\eta^* = \eta_s, \quad s = \mathrm{arg}\min_{t \le m} \frac{d \, \text{loss}_t}{d \log_{10} \eta_t}",
        "The slope at step t is that of a straight line fitted to the losses of a tenth of the steps around it; m is "
        "the step with the lowest fitted loss.",
        "Howard and Gugger, 2020, fastai: A Layered API for Deep Learning (lr_find has the steepest descent, too)",
        "https://arxiv.org/abs/2002.04688",
    ),
]

STEPS = 100
RUNS = 21
BATCH_SIZE = 64


class Result(NamedTuple):
    """The range test, and the losses that training reaches at constant learning rates."""

    test: gx.viz.RangeTest
    rates: np.ndarray
    reached: np.ndarray


def init_params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    params = {"hidden": rng.normal(size=(64, 32)) / 8, "output": rng.normal(size=(32, 10)) / 6}
    return {name: value.astype(np.float32) for name, value in params.items()}


def loss(params: dict[str, Array], images: Array, labels: Array) -> Array:
    scores = jax.nn.relu(images @ params["hidden"]) @ params["output"]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=1).mean()


def batches() -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and labels of all batches, stacked."""
    images, labels = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).integers(0, len(labels), (STEPS, BATCH_SIZE))
    return (images[rows] / 16).astype(np.float32), labels[rows].astype(np.int32)


def train(params: Any, data: Any, rate: Array) -> Array:
    """Returns the mean loss of the last tenth of a training run with a constant learning rate."""
    tx = gx.adam(rate)
    step = gx.value_and_step(loss, tx)

    def body(carry: Any, batch: Any) -> Any:
        params, state, value = step(*carry, *batch)
        return (params, state), value

    params = jax.tree.map(jnp.asarray, params)
    _, losses = jax.lax.scan(body, (params, tx.init(params)), data)
    return losses[-STEPS // 10 :].mean()


def compute() -> Result:
    params, data = init_params(), batches()
    test = gx.viz.range_test(loss, gx.adam, params, list(zip(*data, strict=True)), low=1e-5, high=10.0, steps=STEPS)
    rates = np.geomspace(1e-5, 1.0, RUNS)
    reached = jax.jit(jax.vmap(partial(train, params, data)))(jnp.asarray(rates))
    return Result(test, rates, np.asarray(reached))


def draw(result: Result) -> Any:
    figure = gx.viz.plot_range_test(result.test)
    (axes,) = figure.axes
    shown = result.reached < axes.get_ylim()[1]
    look = {"color": "#009E73", "mec": "black", "markersize": 5}
    axes.plot(result.rates[shown], result.reached[shown], "s", **look, label="constant learning rate")
    axes.set_title("One run with a growing learning rate, and runs with a constant one")
    axes.legend(loc="lower left")
    return figure


def conclusion(result: Result) -> str:
    suggestion = result.test.suggestion
    at, tenth, tenfold = (np.interp(np.log(suggestion * x), np.log(result.rates), result.reached) for x in (1, 0.1, 10))
    return (
        f"The range test suggests {suggestion:.2g} for Adam and diverges at {result.test.rates[-1]:.2g}: training at "
        f"the suggestion ends at a loss of {at:.2g} after {STEPS} steps, at a tenth of it at {tenth:.2g}, and at ten "
        f"times it at {tenfold:.2g}."
    )


if __name__ == "__main__":
    page.main(__file__)
