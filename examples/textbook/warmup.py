"""Warm-up.

Gradient descent is stable while the learning rate is below 2 / sharpness; sharpness is the largest eigenvalue of the
Hessian. This network is so sharp at its start that a high learning rate makes the loss overflow within a few steps. A
rate that is safe at the start is slow for the whole run.

Warm-up raises the learning rate from zero. Whenever the rate reaches the limit, the run moves to flatter places. So the
sharpness falls along 2 / rate, and the high rate is safe by the time it is reached. The last panel shows runs at many
rates, with and without warm-up, in one `vmap`; runs that diverged have no point.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import gradtx as gx
from examples.textbook import page

D2L = "Zhang et al., Dive into Deep Learning, section 12.11.3", "https://d2l.ai/chapter_optimization/lr-scheduler.html"
COHEN = "Cohen et al., 2021, Gradient Descent ... at the Edge of Stability", "https://arxiv.org/abs/2103.00065"
GILMER = "Gilmer et al., 2021, A Loss Curvature Perspective on Training Instability", "https://arxiv.org/abs/2110.04369"
FORMULAS = [
    page.Formula(r"\eta_t = \eta \, \min(t / W, 1)", "Linear warm-up in W steps.", *D2L),
    page.Formula(r"\lambda_{\max}(\nabla^2 f) < 2 / \eta", "Where gradient descent is stable.", *COHEN),
    page.Formula(r"\lambda_{\max}(\nabla^2 f(x_t)) \approx 2 / \eta_t", "The edge, during warm-up.", *GILMER),
]

STEPS, EVERY, WARMUP, SEEDS = 300, 15, 150, 5  # the sharpness is measured at every 15th step
PEAK, SAFE = 1.25, 0.05
# By name: the rate, and the length of the warm-up.
RUNS = {f"rate {PEAK:g}": (PEAK, 0), f"rate {SAFE:g}": (SAFE, 0), "warm-up": (PEAK, WARMUP)}
RATES = np.geomspace(0.02, PEAK, 10)
SIZES = (64, 32, 32, 10)
Params = list[dict[str, Any]]


class Result(NamedTuple):
    """By run: losses by seed and step, and the sharpness of the first seed; last losses with and without warm-up."""

    losses: dict[str, np.ndarray]
    sharpness: dict[str, np.ndarray]
    constant: np.ndarray
    warmed_up: np.ndarray


def data() -> tuple[jax.Array, jax.Array]:
    """Loads 200 of scikit-learn's digits, minus the mean image, and their labels as unit vectors."""
    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images[:200] / 16, jnp.float32)
    return images - images.mean(axis=0, keepdims=True), jax.nn.one_hot(labels[:200], 10)


def init(seed: int) -> Params:
    """Initializes weights that are 1.5 times as large as in He et al. (2015)."""
    rng = np.random.default_rng(seed)
    weights = [np.float32(rng.normal(0, 1.5 * (2 / n) ** 0.5, (n, m))) for n, m in pairwise(SIZES)]
    return [{"w": w, "b": np.zeros(w.shape[1], np.float32)} for w in weights]


def loss(params: Params, images: jax.Array, targets: jax.Array) -> jax.Array:
    *hidden, last = params
    for layer in hidden:
        images = jax.nn.leaky_relu(images @ layer["w"] + layer["b"][None], 0.1)
    return jnp.sum((images @ last["w"] + last["b"][None] - targets) ** 2) / (2 * len(targets))


def train(peak: jax.Array, warmup: jax.Array, params: Params, batch: Any) -> tuple[jax.Array, Params]:
    """Returns the losses of all steps, and the parameters at every 15th step."""
    tx = gx.sgd(gx.warmup_constant_schedule(0.0, peak, warmup))
    step = gx.value_and_step(loss, tx)

    def one(carry: Any, _: None) -> tuple[Any, Any]:
        *new, value = step(*carry, *batch)
        return tuple(new), (value, carry[0])

    losses, visited = jax.lax.scan(one, (params, tx.init(params)), length=STEPS)[1]
    return losses, jax.tree.map(lambda x: x[::EVERY], visited)


def sharpness(params: Params, batch: Any, v: Params, iterations: int = 20) -> jax.Array:
    """Computes the largest eigenvalue of the Hessian by power iteration from v."""

    def product(_: int, carry: Any) -> Any:
        hv = gx.hvp(lambda p: loss(p, *batch), params, carry[0])
        size = gx.tree.norm(hv)
        return jax.tree.map(lambda x: x / size, hv), size

    return jax.lax.fori_loop(0, iterations, product, (v, gx.tree.norm(v)))[1]


def compute() -> Result:
    batch = data()
    runs = [(*run, seed) for run in RUNS.values() for seed in range(SEEDS)]
    runs += [(rate, warmup, 0) for warmup in (0, WARMUP) for rate in RATES]
    peaks, warmups, seeds = zip(*runs, strict=True)
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *map(init, seeds))
    every = jax.jit(jax.vmap(train, (0, 0, 0, None)))
    losses, snapshots = every(np.float32(peaks), np.float32(warmups), starts, batch)
    first = jax.tree.map(lambda x: x[: SEEDS * len(RUNS) : SEEDS], snapshots)
    start = init(99)
    found = jax.jit(jax.vmap(jax.vmap(lambda params: sharpness(params, batch, start))))(first)
    *by_run, constant, warmed_up = np.split(np.asarray(losses), [5, 10, 15, 25])
    sharp = dict(zip(RUNS, np.asarray(found), strict=True))
    return Result(dict(zip(RUNS, by_run, strict=True)), sharp, constant[:, -1], warmed_up[:, -1])


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    (rate, loss), (sharp, sweep) = figure.subplots(2, 2)
    steps, styles = np.arange(STEPS), ("-", "--", "-.")
    for i, (name, (peak, warmup)) in enumerate(RUNS.items()):
        rates = np.asarray(gx.warmup_constant_schedule(0.0, peak, warmup)(steps))
        rate.semilogy(steps[1:], rates[1:], label=name)
        for losses in result.losses[name]:
            loss.semilogy(steps, np.where(losses < 1e6, losses, np.nan), styles[i], color=f"C{i}", linewidth=0.8)
        sharp.semilogy(steps[::EVERY], result.sharpness[name], "os^"[i], color=f"C{i}", markersize=5, label=name)
    sharp.semilogy(steps[5:], 2 / rates[5:], color="0.3", linestyle=":", label="2 / rate of the warm-up")
    rate.set(title="Learning rates", xlabel="step", ylabel="learning rate")
    loss.set(title=f"Losses from {SEEDS} starts", xlabel="step", ylabel="loss", ylim=(5e-3, 1e4))
    sharp.set(title="Sharpness, from the first start", xlabel="step", ylabel="largest eigenvalue", ylim=(1, 100))
    sweep.loglog(RATES, result.constant, "o-", color="C0", markersize=5, label="constant")
    sweep.loglog(RATES, result.warmed_up, "^-.", color="C2", markersize=5, label="with warm-up")
    sweep.set(title=f"Loss after {STEPS} steps, by rate", xlabel="learning rate", ylabel="loss", ylim=(0.01, 1))
    for ax in (rate, sharp, sweep):
        ax.legend()
    return figure


def conclusion(result: Result) -> str:
    diverged, safe, warm = (losses[:, -1] for losses in result.losses.values())
    first, *_, last = result.sharpness["warm-up"]
    return (
        f"At rate {PEAK:g}, {np.isnan(diverged).sum()} of {SEEDS} runs diverge without warm-up and none with it. With "
        f"warm-up the mean loss ends at {warm.mean():.3f}; at the safe rate {SAFE:g} it ends at {safe.mean():.2f}. "
        f"Warm-up lowers the sharpness from {first:.0f} to {last:.1f}; 2 / rate is {2 / PEAK:g}."
    )


if __name__ == "__main__":
    page.main(__file__)
