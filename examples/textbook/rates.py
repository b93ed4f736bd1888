"""Learning rates that change.

With noisy gradients and a constant learning rate, the iterates stay in a cloud around the minimum. A rate that falls
exponentially ends the noise, but also the progress: the remaining steps add up to a finite distance, which may not
reach the minimum. A rate that falls as the inverse root of the step ends the noise and still reaches the minimum.

The bound in the last panel holds for every convex function whose subgradients have a norm of at most L, from a start at
distance r from the minimum. It bounds the loss of the average of the iterates, weighted by the rates. It is lowest for
the constant rate r / (L sqrt(T)), for which the length T of the run must be known in advance. The problem there is
least absolute deviations, and every step sees one sample.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page

D2L = "Zhang et al., Dive into Deep Learning, section 12.4", "https://d2l.ai/chapter_optimization/sgd.html"
BUBECK = "Bubeck, 2015, Convex Optimization: Algorithms and Complexity, section 3.1", "https://arxiv.org/abs/1405.4980"
BOUND = r"E[f(\bar x)] - f^* \le \frac{r^2 + L^2 \sum_{t=1}^T \eta_t^2}{2 \sum_{t=1}^T \eta_t}"
SMALLEST = r"\eta = \frac{r}{L \sqrt{T}} \quad \Rightarrow \quad E[f(\bar x)] - f^* \le \frac{r L}{\sqrt{T}}"
FORMULAS = [
    page.Formula(r"\eta_t = \eta_0 e^{-\lambda t}", "Exponential decay.", *D2L),
    page.Formula(r"\eta_t = \eta_0 (\beta t + 1)^{-\alpha}", "Polynomial decay, here with alpha = 1/2.", *D2L),
    page.Formula(BOUND, "The error of the average, with weights proportional to the rates.", *D2L),
    page.Formula(SMALLEST, "The constant rate that makes the bound smallest.", *BUBECK),
]

RATES = {
    "constant": gx.constant_schedule(0.1),
    "exponential": gx.exponential_schedule(0.1, rate=0.1),
    "polynomial": gx.inverse_power_schedule(0.1, beta=0.1, alpha=0.5),
}
CURVATURES = (2.0, 4.0)  # the curvatures of x1^2 + 2 x2^2
START = (-5.0, -2.0)
STEPS, RUNS, BOUND_RUNS = 1000, 500, 64
HORIZONS = 2 ** np.arange(13)  # lengths T of the runs with the constant rate for T
R, L = 4.0, 1.0  # distance from the start to the minimum; norm of a subgradient, a unit vector


class Result(NamedTuple):
    """By schedule: the mean losses and one path. By horizon and by step: the loss of the average, and its bound."""

    losses: dict[str, np.ndarray]
    paths: dict[str, np.ndarray]
    best: tuple[np.ndarray, np.ndarray]
    falling: tuple[np.ndarray, np.ndarray]


@partial(jax.jit, static_argnums=0)
def noisy(rate: Any, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss by step of runs with noise of variance 1 in every gradient, and the first run's path."""
    tx, start, curvatures = gx.sgd(rate), jnp.array(START), jnp.array(CURVATURES)

    def step(carry: Any, noise: jax.Array) -> tuple[Any, jax.Array]:
        x, state = carry
        updates, state = tx.update(curvatures * x + noise, state)
        return (gx.apply_updates(x, updates), state), x

    paths = jax.vmap(lambda noise: jax.lax.scan(step, (start, tx.init(start)), noise)[1])(noise)
    return (paths**2 @ curvatures / 2).mean(axis=0), paths[0]


def deviation(x: jax.Array, angle: jax.Array) -> jax.Array:
    """Computes the loss of one sample, whose feature is the unit vector of this angle, and whose label is 0."""
    return jnp.abs(x @ jnp.array([jnp.cos(angle), jnp.sin(angle)]))


def error_of_average(rate: Any, angles: jax.Array) -> jax.Array:
    """Returns the expected loss of the average over all samples, by the number of steps that are averaged."""
    tx = gx.polyak_average(gx.sgd(rate), weights=rate)
    step = gx.value_and_step(deviation, tx)

    def one(carry: Any, angle: jax.Array) -> tuple[Any, jax.Array]:
        x, state, _ = step(*carry, angle)
        return (x, state), 2 / jnp.pi * gx.tree.norm(gx.averaged_params(state))

    start = jnp.array([R, 0.0])
    return jax.lax.scan(one, (start, tx.init(start)), angles)[1]


def bound(rates: np.ndarray) -> np.ndarray:
    """Returns the bound after every step, from the learning rates so far."""
    return (R**2 + L**2 * np.cumsum(rates**2)) / (2 * np.cumsum(rates))


def compute() -> Result:
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.normal(size=(RUNS, STEPS + 1, 2)), jnp.float32)
    angles = jnp.asarray(rng.uniform(0, 2 * np.pi, (BOUND_RUNS, HORIZONS[-1])), jnp.float32)
    measured = {name: jax.device_get(noisy(rate, noise)) for name, rate in RATES.items()}

    def mean_error(rate: Any) -> jax.Array:
        return jax.vmap(error_of_average, (None, 0))(rate, angles).mean(axis=0)

    best = jax.vmap(lambda steps: mean_error(gx.optimal_constant_rate(R, L, steps))[steps - 1])
    falling = gx.inverse_power_schedule(R / L, beta=1.0, alpha=0.5)
    return Result(
        {name: losses for name, (losses, _) in measured.items()},
        {name: path for name, (_, path) in measured.items()},
        (np.asarray(jax.jit(best)(jnp.asarray(HORIZONS))), R * L / np.sqrt(HORIZONS)),
        (np.asarray(jax.jit(mean_error)(falling)), bound(np.asarray(falling(jnp.arange(HORIZONS[-1]))))),
    )


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    (rates, plane), (losses, bounds) = figure.subplots(2, 2)
    steps = np.arange(STEPS + 1)
    for (name, rate), marker in zip(RATES.items(), "os^", strict=True):
        rates.loglog(1 + steps, rate(steps), label=name)
        plane.plot(*result.paths[name][:60].T, marker=marker, markersize=3, linewidth=0.8, label=name)
        losses.loglog(1 + steps, result.losses[name], label=name)
    rates.set(title="Three learning rates", xlabel="step", ylabel="learning rate", ylim=(1e-4, 0.3))
    rates.legend(loc="lower left")
    plane.plot(0, 0, "k*", markersize=12)
    plane.legend(loc="lower right")
    plane.set(title="60 noisy steps on $x_1^2 + 2 x_2^2$", xlabel="$x_1$", ylabel="$x_2$")
    losses.set(title=f"Mean loss of {RUNS} runs", xlabel="step", ylabel="loss")
    losses.legend(loc="lower left")
    after = 1 + np.arange(HORIZONS[-1])
    for x, curves, style, rate in ((HORIZONS, result.best, "C0s", "T"), (after, result.falling, "C1", "t")):
        bounds.loglog(x, curves[1], f"{style}--", markersize=4, label=rf"bound for $r / (L\sqrt{{{rate}}})$")
        bounds.loglog(x, curves[0], f"{style}-", markersize=4, label="measured")
    bounds.set(title="The average of the iterates and its bound", xlabel="T steps", ylabel="loss of the average")
    bounds.legend(loc="lower left")
    return figure


def conclusion(result: Result) -> str:
    constant, exponential, polynomial = (losses[-1] for losses in result.losses.values())
    margin = min((bound / loss).min() for loss, bound in (result.best, result.falling))
    return (
        f"After {STEPS:,} noisy steps the loss is {exponential:.2f} with the exponential rate, {constant:.3f} with the "
        f"constant rate and {polynomial:.4f} with the polynomial rate; the bound for the average holds at every T "
        f"and is at least {margin:.1f} times the measured loss."
    )


if __name__ == "__main__":
    page.main(__file__)
