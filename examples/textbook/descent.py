"""Gradient descent four ways.

We predict how diabetes progresses in 442 patients from ten measurements, by linear regression. A step of gradient
descent may use the mean gradient of all 128 patients in the training set, of one patient, or of a mini-batch of 16.
Ideally a step would use the gradient of the expected loss over the whole population, which a training set cannot give.
Here all 442 patients stand for the population, so we can compute this gradient for comparison.

Counted in steps, the full batch wins. Counted in patients seen, which is what costs time, small batches are far ahead
in the first passes. Then the noise of their gradients stops them: it falls only with the square root of the batch size.
And however good the optimizer is, it finds the minimum of the training loss, not of the expected loss.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes

import gradtx as gx
from examples.textbook import page

TRAIN, SEEN, SEEDS = 128, 25_600, 16  # patients in the training set; seen in a run; runs with random batches
METHODS = {"full batch": (128, 0.3), "mini-batch of 16": (16, 0.1), "one sample": (1, 0.02)}  # batch size, rate
EXPECTATION, SIZES = "expectation", (1, 2, 4, 8, 16, 32, 64, 128)
D2L, URL = "Zhang et al., Dive into Deep Learning, section", "https://d2l.ai/chapter_optimization/"

FORMULAS = [
    page.Formula(r"w \leftarrow w - \eta \nabla f(w)", "Gradient descent.", f"{D2L} 12.3", f"{URL}gd.html"),
    page.Formula(r"E_i[\nabla f_i(w)] = \nabla f(w)", "One sample: right on average.", f"{D2L} 12.4", f"{URL}sgd.html"),
    page.Formula(
        r"g_B = \frac{1}{b} \sum_{i \in B} \nabla f_i(w), \quad \sigma(g_B) = \frac{\sigma(\nabla f_i)}{\sqrt{b}}",
        "A mini-batch of b samples: less noise, at b times the cost.",
        f"{D2L} 12.5",
        f"{URL}minibatch-sgd.html",
    ),
    page.Formula(
        r"f(w) = E_{x, y}\left[\tfrac{1}{2} (w^\top x - y)^2\right]",
        "The expected loss, whose gradient nobody has.",
        "Bottou and Bousquet, 2008, The Tradeoffs of Large Scale Learning",
        "https://papers.nips.cc/paper/3323-the-tradeoffs-of-large-scale-learning",
    ),
]


class Result(NamedTuple):
    """Weights after every step, of shape (runs, steps, 11), by method; the two minima; the gradient noise by size."""

    paths: dict[str, np.ndarray]
    x: np.ndarray  # the features of all patients
    best: np.ndarray
    best_of_sample: np.ndarray
    noise: np.ndarray


def loss(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


@jax.jit
def train(tx, x, y, batches):
    """Returns the weights after every step; `batches` holds the indices of the data that each step uses."""
    step = gx.value_and_step(loss, tx)

    def body(carry, rows):
        w, state, _ = step(*carry, x[rows], y[rows])
        return (w, state), w

    w = jnp.zeros(x.shape[1])
    return jax.lax.scan(body, (w, tx.init(w)), batches)[1]


def compute() -> Result:
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x = np.column_stack([x / x.std(axis=0), np.ones(len(y))])[order].astype(np.float32)
    y = ((y - y.mean()) / y.std())[order].astype(np.float32)

    rng = np.random.default_rng(1)
    paths = {EXPECTATION: train(gx.sgd(0.3), x, y, np.tile(np.arange(len(y)), (SEEN // TRAIN, 1)))[None]}
    for name, (size, rate) in METHODS.items():
        passes = rng.permuted(np.tile(np.arange(TRAIN), (SEEDS, SEEN // TRAIN, 1)), axis=2)
        runs = jax.vmap(train, in_axes=(None, None, None, 0))
        paths[name] = runs(gx.sgd(rate), x[:TRAIN], y[:TRAIN], passes.reshape(SEEDS, -1, size))

    gradients = -y[:TRAIN, None] * x[:TRAIN]  # the gradient for each patient at w = 0
    draws = [gradients[rng.integers(0, TRAIN, (4000, size))].mean(1) for size in SIZES]
    noise = [np.sqrt(np.mean(np.sum((g - gradients.mean(0)) ** 2, axis=1))) for g in draws]
    best, best_of_sample = (np.linalg.lstsq(x[:n], y[:n])[0] for n in (len(y), TRAIN))
    return Result(jax.device_get(paths), x, best, best_of_sample, np.array(noise))


def error(result: Result, w: np.ndarray) -> np.ndarray:
    """Returns by how much the expected loss exceeds its minimum."""
    return 0.5 * np.einsum("...i,ij,...j", w - result.best, result.x.T @ result.x, w - result.best) / len(result.x)


def errors(result: Result) -> dict[str, np.ndarray]:
    """Returns the mean error over the runs after every step, by method."""
    return {name: error(result, w).mean(0) for name, w in result.paths.items()}


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 6.8))
    (steps, seen), (plane, noise) = figure.subplots(2, 2)
    for name, curve in errors(result).items():
        at = np.unique(np.geomspace(1, len(curve), 70).astype(int))
        (line,) = steps.loglog(at, curve[at - 1], label=name)
        if name != EXPECTATION:
            size = METHODS[name][0]
            seen.loglog(at * size, curve[at - 1], line.get_linestyle(), color=line.get_color())
            weights = result.paths[name][0, : 10 * TRAIN // size, [2, 8]]
            look = {"color": line.get_color(), "linewidth": 0.8, "markersize": 4, "zorder": 2 + size / 99}
            plane.plot(*weights, {1: "-", 16: ".-", 128: "s-"}[size], **look)
    floor = error(result, result.best_of_sample)
    for axes, label in ((steps, "steps"), (seen, "patients seen")):
        axes.axhline(floor, color="0.4", linewidth=0.8)
        axes.set(title=f"Error against {label}", xlabel=label, ylabel="expected loss - minimum", ylim=(2e-4, 0.5))
    seen.text(1, floor / 2.2, "line: minimum of the training set", fontsize=9)
    steps.legend(loc="lower right")

    plane.plot(*result.best_of_sample[[2, 8]], "ks", zorder=9, label="minimum of the training set")
    plane.plot(*result.best[[2, 8]], "k*", markersize=11, zorder=9, label="minimum of the expectation")
    plane.set(
        title="Two of the weights, in ten passes",
        xlabel="weight of body mass",
        ylabel="weight of triglycerides",
        ylim=(-0.03, 0.5),
    )
    plane.legend(loc="lower right")
    noise.loglog(SIZES, result.noise, "o", color="C0", label="measured")
    noise.loglog(SIZES, result.noise[0] / np.sqrt(SIZES), "--", color="C1", label="noise of one sample / √b")
    noise.set(title="Noise of the gradient", xlabel="batch size b", ylabel="standard deviation")
    noise.legend()
    return figure


def conclusion(result: Result) -> str:
    full, batch, one = (errors(result)[name] for name in METHODS)
    return (
        f"After one pass the expected loss is {full[0]:.3f} (full batch), {batch[7]:.3f} (mini-batch) or {one[127]:.3f}"
        f" (one sample) above its minimum; after 200 passes {full[-1]:.3f}, {batch[-1]:.3f} or {one[-1]:.3f}."
    )


if __name__ == "__main__":
    page.main(__file__)
