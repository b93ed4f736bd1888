"""Momentum.

Momentum replaces the gradient by a leaky sum of all gradients so far. A fraction 1 - beta of the sum is lost in every
step, so about 1 / (1 - beta) gradients count. Dampening gives the newest gradient less weight: with dampening beta
the sum is an average, except that the first gradient gets its full weight, as in PyTorch.

On a quadratic, each step is a linear map of velocity and position. The largest modulus of its eigenvalues is the factor
by which the error shrinks per step. The heat maps compare this prediction with the factor measured in runs of 600
steps, for 60 x 60 pairs of learning rate and momentum in one `vmap`. The last problem has a curvature 100 times larger
in one direction than in the other. There Nesterov's momentum is slower than momentum with the best pair (the heavy
ball). But its convergence is guaranteed for every strongly convex function with curvatures in this range, and the heavy
ball may fail to converge on one that is not quadratic (Lessard, Recht and Packard, 2016).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page

D2L = "Zhang et al., Dive into Deep Learning, section 12.6", "https://d2l.ai/chapter_optimization/momentum.html"
POLYAK = "Polyak, 1964, Some methods of speeding up the convergence of iteration methods"
NESTEROV = (
    "Sutskever et al., 2013, On the importance of initialization",
    "https://proceedings.mlr.press/v28/sutskever13.html",
)
R = r"R(\beta, \eta, \lambda) = \begin{pmatrix} \beta & \lambda \\ -\eta \beta & 1 - \eta \lambda \end{pmatrix}"
BEST = r"\sqrt\beta = \frac{\sqrt M - \sqrt m}{\sqrt M + \sqrt m}, \quad \eta = \frac{4}{(\sqrt M + \sqrt m)^2}"
FORMULAS = [
    page.Formula(r"v_t = \beta v_{t-1} + g_t, \quad x_t = x_{t-1} - \eta v_t", "The leaky sum, and the step.", *D2L),
    page.Formula(R, "The map from the last velocity and position to the next, on f(x) = lambda x^2 / 2.", *D2L),
    page.Formula(r"0 < \eta \lambda < 2 + 2 \beta", "Where it converges.", *D2L),
    page.Formula(BEST, "The best pair for curvatures from m to M; the error shrinks by sqrt(beta).", POLYAK),
    page.Formula(r"x_t = x_{t-1} - \eta (g_t + \beta v_t)", "Nesterov's form.", *NESTEROV),
]

CURVATURES = (1.0, 10.0)
RATES, MOMENTA = np.meshgrid(np.linspace(0.005, 0.4, 60), np.linspace(0, 0.98, 60))
STEPS, FROM = 600, 200  # steps of a run; its speed is measured after the first 200 steps
STEEP, RACE_STEPS = (1.0, 100.0), 150


def best_pair(curvatures: tuple[float, float]) -> tuple[float, float]:
    """Returns Polyak's learning rate and momentum."""
    low, high = np.sqrt(curvatures)
    return (2 / (low + high)) ** 2, ((high - low) / (high + low)) ** 2


RATE, MOMENTUM = best_pair(STEEP)
RACE = {
    "gradient descent": gx.sgd(2 / sum(STEEP)),
    "momentum": gx.sgd(RATE, MOMENTUM),
    "dampened": gx.sgd(RATE / (1 - MOMENTUM), MOMENTUM, dampening=MOMENTUM),
    "Nesterov": gx.sgd(1 / max(STEEP), MOMENTUM**0.5, nesterov=True),
}
SUMS = {f"beta = {beta}": gx.trace(beta) for beta in (0.95, 0.9, 0.6)}
SUMS["beta = 0.9, dampened"] = gx.trace(0.9, dampening=0.9)


class Result(NamedTuple):
    """Weights of past gradients; factors per step over the grid; errors by step."""

    weights: dict[str, np.ndarray]
    predicted: np.ndarray
    measured: np.ndarray
    errors: dict[str, np.ndarray]


def weights(tx: gx.GradientTransformation) -> np.ndarray:
    """Returns the momentum sums that follow a single gradient of 1, which is not the first gradient."""
    grads = jnp.zeros(42).at[1].set(1.0)
    return jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], tx.init(grads[0]), grads)[1][1:]


def errors(tx: gx.GradientTransformation, curvatures: tuple[float, float], steps: int) -> jax.Array:
    """Returns the largest entry of the position and the last move, by step."""

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        x, state = carry
        updates, state = tx.update(jnp.array(curvatures) * x, state)
        return (gx.apply_updates(x, updates), state), jnp.maximum(jnp.abs(x).max(), jnp.abs(updates).max())

    return jax.lax.scan(step, (jnp.ones(2), tx.init(jnp.ones(2))), length=steps)[1]


def measured(rate: Any, momentum: Any) -> jax.Array:
    """Returns the factor by which the error of a run shrinks per step, from the slope of the logarithm of the error."""
    late = jnp.log(errors(gx.sgd(rate, momentum), CURVATURES, STEPS)[FROM:])
    time = jnp.linspace(-0.5, 0.5, STEPS - FROM) * (STEPS - FROM - 1)
    return jnp.exp(time @ late / (time @ time))


def predicted(rate: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """Returns the largest modulus of the eigenvalues of R, over both curvatures."""
    moduli = []
    for curvature in CURVATURES:
        rows = [[momentum, np.full_like(rate, curvature)], [-rate * momentum, 1 - rate * curvature]]
        moduli.append(np.abs(np.linalg.eigvals(np.moveaxis(np.array(rows), (0, 1), (-2, -1)))).max(axis=-1))
    return np.maximum(*moduli)


def compute() -> Result:
    with jax.enable_x64(True):  # a run of 600 steps shrinks the error to 1e-160, or blows it up to 1e280
        grid = jax.jit(jax.vmap(measured))(RATES.ravel(), MOMENTA.ravel())
        race = {name: np.asarray(errors(tx, STEEP, RACE_STEPS)) for name, tx in RACE.items()}
    sums = {name: np.asarray(weights(tx)) for name, tx in SUMS.items()}
    return Result(sums, predicted(RATES, MOMENTA), np.asarray(grid).reshape(RATES.shape), race)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    maps, (sums, race) = figure.subplots(2, 2)
    for ax, factors, kind in zip(maps, (result.predicted, result.measured), ("Predicted", "Measured"), strict=True):
        colours = ax.pcolormesh(RATES, MOMENTA, np.minimum(factors, 1.1), cmap="cividis", vmin=0.5, vmax=1.1)
        ax.plot((2 + 2 * MOMENTA[:, 0]) / max(CURVATURES), MOMENTA[:, 0], "k")
        ax.plot(*best_pair(CURVATURES), "w*", markersize=12)
        ax.text(0.33, 0.1, "diverges", ha="center")
        ax.set(title=f"{kind} factor per step", xlabel="learning rate $\\eta$", ylabel="momentum $\\beta$")
    figure.colorbar(colours, ax=maps, extend="max", label="factor per step")
    for (name, weight), marker in zip(result.weights.items(), "os^D", strict=True):
        sums.plot(weight, marker=marker, markersize=4, markevery=5, label=name.replace("beta", "$\\beta$"))
    sums.set(title="Weight of a past gradient", xlabel="steps since that gradient", ylabel="weight in the sum")
    sums.legend()
    for (name, error), marker in zip(result.errors.items(), "os^D", strict=True):
        race.semilogy(error, marker=marker, markersize=4, markevery=15, label=name)
    race.set(title="Error with curvatures 1 and 100", xlabel="step", ylabel="error")
    race.legend()
    return figure


def conclusion(result: Result) -> str:
    return (
        f"Over {RATES.size:,} pairs of learning rate and momentum, the measured factor per step differs from the "
        f"prediction by at most {np.abs(result.measured - result.predicted).max():.4f}. The best pair has "
        f"{result.measured.min():.2f}; without momentum no rate has less than {result.measured[0].min():.2f}."
    )


if __name__ == "__main__":
    page.main(__file__)
