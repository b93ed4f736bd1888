"""A learning rate and a weight decay learned by gradient descent.

Training maps hyperparameters to weights, and the weights have a loss on validation data. A gradtx transformation is a
pytree, so `jax.grad` differentiates this loss with respect to the transformation, through all training steps. The
result is a transformation with the hypergradients in place of the hyperparameters. Adam then updates the
hyperparameters.

The model is linear regression with more features than its few and noisy examples support. Adam works on the logarithms
of both hyperparameters, from a learning rate that is too small and a weight decay that is too large. The map is a grid
of training runs, for comparison. It shows two remedies for overfitting: a learning rate so small that training ends
early (the vertical valley), and weight decay (the horizontal one, which is deeper).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import gradtx as gx
from examples.textbook import page

FORMULAS = [
    page.Formula(
        r"w_{t+1} = w_t - \eta \left(\nabla L_{\text{train}}(w_t) + \lambda w_t\right), \quad t = 0 \dots T - 1",
        "Gradient descent with learning rate eta and weight decay lambda.",
        "Krogh and Hertz, 1991, A Simple Weight Decay Can Improve Generalization",
        "https://papers.nips.cc/paper/1991/hash/8eefcfdf5990e441f0fb6f3fad709e21-Abstract.html",
    ),
    page.Formula(
        r"\frac{d L_{\text{val}}(w_T)}{d \eta} = -\sum_{t} \left\langle \frac{d L_{\text{val}}}{d w_{t+1}}, "
        r"\nabla L_{\text{train}}(w_t) + \lambda w_t \right\rangle, \quad "
        r"\frac{d L_{\text{val}}(w_T)}{d \lambda} = -\eta \sum_{t} \left\langle \frac{d L_{\text{val}}}{d w_{t+1}}, "
        r"w_t \right\rangle",
        "The hypergradients, by the chain rule through all steps.",
        "Maclaurin, Duvenaud and Adams, 2015, Gradient-based Hyperparameter Optimization through Reversible Learning",
        "https://arxiv.org/abs/1502.03492",
    ),
]

STEPS = 50
OUTER_STEPS = 80
START = {"learning_rate": 0.002, "weight_decay": 5.0}
RATES, DECAYS = np.geomspace(1e-3, 0.5, 40), np.geomspace(1e-3, 10.0, 40)


class Data(NamedTuple):
    x: np.ndarray
    y: np.ndarray


class Result(NamedTuple):
    """The hyperparameters and validation losses of the outer steps, and the losses on a grid: a row for each decay."""

    path: dict[str, np.ndarray]
    losses: np.ndarray
    grid: np.ndarray


def load() -> tuple[Data, Data]:
    """Makes a few noisy training examples, and many validation examples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(230, 20)) * np.geomspace(1.5, 0.3, 20)
    y = x @ rng.normal(size=20) + 3 * rng.normal(size=230)
    return Data(x[:30], y[:30]), Data(x[30:], y[30:])


def loss(weights: Array, data: Data) -> Array:
    return jnp.mean((data.x @ weights - data.y) ** 2) / 2


def validation_loss(tx: gx.GradientTransformation, training: Data, validation: Data) -> Array:
    """Returns the validation loss after training with `tx`."""
    step = gx.value_and_step(loss, tx)
    weights = jnp.zeros(20)

    def body(carry: Any, _: None) -> Any:
        weights, state, _ = step(*carry, training)
        return (weights, state), None

    (weights, _), _ = jax.lax.scan(body, (weights, tx.init(weights)), length=STEPS)
    return loss(weights, validation)


def make(learning_rate: Any, weight_decay: Any) -> gx.GradientTransformation:
    return gx.chain(gx.add_decayed_weights(weight_decay), gx.sgd(learning_rate))


def compute() -> Result:
    data = load()

    def objective(logs: gx.GradientTransformation) -> Array:
        return validation_loss(jax.tree.map(jnp.exp, logs), *data)

    outer = gx.adam(gx.cosine_decay_schedule(0.3, OUTER_STEPS))
    outer_step = gx.value_and_step(objective, outer)

    def body(carry: Any, _: None) -> Any:
        logs, state, value = outer_step(*carry)
        return (logs, state), (jax.tree.map(jnp.exp, carry[0]), value)

    logs = jax.tree.map(jnp.log, make(**START))  # a transformation, too: the parameters of the outer problem
    _, (path, losses) = jax.jit(lambda: jax.lax.scan(body, (logs, outer.init(logs)), length=OUTER_STEPS + 1))()
    runs = jax.vmap(jax.vmap(lambda r, d: validation_loss(make(r, d), *data), (0, None)), (None, 0))
    grid = jax.jit(runs)(jnp.asarray(RATES), jnp.asarray(DECAYS))
    path = {name.rpartition(".")[2]: values for name, values in gx.hyperparameters(path).items()}
    return Result(*jax.device_get((path, losses, grid)))


def draw(result: Result) -> Any:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.8), layout="constrained")
    chart, curve = figure.subplots(1, 2, width_ratios=(1.2, 1))
    best = min(np.nanmin(result.grid), result.losses.min())
    above = np.maximum(np.nan_to_num(result.grid, nan=np.inf) - best, 1e-6)  # zero has no logarithm
    look = {"levels": np.geomspace(0.01, 10, 13), "norm": LogNorm(), "cmap": "Greys", "alpha": 0.7, "extend": "both"}
    lines = chart.contourf(RATES, DECAYS, above, **look)
    rates, decays = (result.path[name] for name in START)
    chart.plot(rates, decays, "-o", color="#0072B2", markersize=3)
    chart.plot(rates[-1], decays[-1], "*", color="#D55E00", mec="black", markersize=15, zorder=5)
    chart.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="weight decay")
    chart.set_title("Where hypergradients lead")
    figure.colorbar(lines, ax=chart, label="validation loss above the best", ticks=[0.01, 0.1, 1, 10], format="%g")
    curve.plot(result.losses, color="#0072B2", label="hypergradients")
    label = f"best of {result.grid.size:,} runs on the grid"
    curve.axhline(np.nanmin(result.grid), color="black", linestyle="--", linewidth=1, label=label)
    curve.set(title="Validation loss after each outer step", xlabel="outer step", ylabel="validation loss")
    curve.legend()
    curve.grid()
    figure.get_layout_engine().set(wspace=0.06)
    return figure


def conclusion(result: Result) -> str:
    rate, decay = (result.path[name][-1] for name in START)
    return (
        f"{OUTER_STEPS} hypergradients through {STEPS} training steps lower the validation loss from "
        f"{result.losses[0]:.3f} to {result.losses[-1]:.3f}, at learning rate {rate:.2g} and weight decay {decay:.2g}; "
        f"the best of {result.grid.size:,} runs on a grid reaches {np.nanmin(result.grid):.3f}."
    )


if __name__ == "__main__":
    page.main(__file__)
