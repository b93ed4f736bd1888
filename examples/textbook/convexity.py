"""Convexity.

A set is convex if it contains the segment between any two of its points. Two discs are convex, and so is their
intersection; their union is not. A function is convex if no chord lies below its graph, which is to say: its second
derivative, or every eigenvalue of its Hessian, is nowhere negative.

Jensen's inequality follows: the mean of f(X) is at least f of the mean. With a hidden variable y and f = -log, the mean
of -log p(x | y) is an upper bound on -log p(x); it is easier to compute, because the sum is outside of the logarithm.

Convex problems are easy because a local minimum is also the global one, so descent reaches it from every start. The
sublevel sets of a convex function are convex; the double well has one in two parts, with a minimum in each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page
from examples.textbook.trajectory import trajectory

D2L = "Zhang et al., Dive into Deep Learning, section 12.2", "https://d2l.ai/chapter_optimization/convexity.html"
BOYD = "Boyd and Vandenberghe, 2004, Convex Optimization, section 9.3.2", "https://web.stanford.edu/~boyd/cvxbook/"
LOG_SUM_EXP = r"\log\left(e^{x + 3y - 0.1} + e^{x - 3y - 0.1} + e^{-x - 0.1}\right)"
COMPONENTS = ((0.7, -1.0, 0.6), (0.3, 1.5, 0.4))  # of a mixture: p(y), and mean and deviation of p(x | y)

FORMULAS = [
    page.Formula(r"\lambda a + (1 - \lambda) b \in S \quad \text{for} \; a, b \in S", "A convex set.", *D2L),
    page.Formula(r"\lambda f(a) + (1 - \lambda) f(b) \ge f(\lambda a + (1 - \lambda) b)", "A convex function.", *D2L),
    page.Formula(r"E[f(X)] \ge f(E[X])", "Jensen's inequality, for convex f.", *D2L),
    page.Formula(r"E_{y \sim p(y)}[-\log p(x \mid y)] \ge -\log p(x)", "The same for f = -log.", *D2L),
    page.Formula(r"f'' \ge 0, \quad \nabla^2 f \succeq 0", "Convexity by the second derivative.", *D2L),
    page.Formula(r"S_b = \{x : f(x) \le b\}", "A sublevel set, which is convex if f is.", *D2L),
    page.Formula(LOG_SUM_EXP, "The convex function of the last row: the logarithm of the book's example.", *BOYD),
]

X = np.linspace(-3, 3, 241, dtype=np.float32)
GRID = np.stack(np.meshgrid(*[np.linspace(-1.5, 1.5, 121, dtype=np.float32)] * 2), axis=-1)
CURVES = {"x²/2": lambda x: x**2 / 2, "exp(x/2)": lambda x: jnp.exp(x / 2), "cos(πx)": lambda x: jnp.cos(jnp.pi * x)}
SURFACES = {
    "log-sum-exp": lambda x, y: jnp.logaddexp(jnp.logaddexp(x + 3 * y, x - 3 * y), -x) - 0.1,
    "double well": lambda x, y: (x**2 - 1) ** 2 + 0.3 * x + y**2,
}
SETS = {  # each set has the points at which its function is not positive
    "disc": lambda x, y: (x + 0.6) ** 2 + y**2 - 0.8**2,
    "intersection": lambda x, y: jnp.maximum(SETS["disc"](x, y), SETS["disc"](-x, y)),
    "union": lambda x, y: jnp.minimum(SETS["disc"](x, y), SETS["disc"](-x, y)),
    "log-sum-exp": lambda x, y: SURFACES["log-sum-exp"](x, y) - 1.3,
    "double well": lambda x, y: SURFACES["double well"](x, y) - 0.6,
}


class Result(NamedTuple):
    """The measurements, in dicts by the names of sets and functions."""

    midpoints: dict[str, np.ndarray]  # fraction of midpoints of pairs in the set that lie in the set
    curvature: dict[str, np.ndarray]  # the smallest eigenvalue of the Hessian on the grid
    jensen: dict[str, np.ndarray]  # E[f(X)] - f(E[X]) of samples
    surprise: np.ndarray  # E[-log p(x | y)] and -log p(x) on the grid
    paths: dict[str, np.ndarray]  # the paths of gradient descent
    heights: dict[str, np.ndarray]  # the functions of surfaces and sets on the grid


@jax.jit
def measured(x, grid, ends, samples, starts) -> Result:
    def share(level):
        a, b, middle = level(*jnp.moveaxis(jnp.stack([*ends, ends.mean(0)]), -1, 0)) <= 0
        return (a & b & middle).sum() / (a & b).sum()

    def least_curvature(f, points):
        return jnp.linalg.eigvalsh(jax.vmap(lambda p: gx.hessian(lambda p: f(*p), p))(points)).min()

    weight, mean, deviation = jnp.array(COMPONENTS).T[..., None]
    given_y = jax.scipy.stats.norm.logpdf(x[None], mean, deviation)  # log p(x | y)
    return Result(
        midpoints={name: share(level) for name, level in SETS.items()},
        curvature={name: least_curvature(f, x[:, None]) for name, f in CURVES.items()}
        | {name: least_curvature(f, grid.reshape(-1, 2)) for name, f in SURFACES.items()},
        jensen={name: f(samples).mean(1) - f(samples.mean(1)) for name, f in CURVES.items()},
        surprise=jnp.stack([-(weight * given_y).sum(0), -jnp.log((weight * jnp.exp(given_y)).sum(0))]),
        paths={
            name: jax.vmap(lambda p, f=f: trajectory(lambda p: f(*p), gx.sgd(0.05), p, 300))(starts)
            for name, f in SURFACES.items()
        },
        heights={name: f(*grid.T) for name, f in SETS.items()},
    )


def compute() -> Result:
    rng = np.random.default_rng(0)
    ends = rng.uniform(-1.5, 1.5, (2, 20_000, 2))
    samples = rng.normal(rng.uniform(-1, 1, (50, 1)), rng.uniform(0.1, 1.5, (50, 1)), (50, 200))
    starts = 1.4 * np.stack([f(np.arange(16) * np.pi / 8) for f in (np.cos, np.sin)], axis=1)
    return jax.device_get(measured(*(a.astype(np.float32) for a in (X, GRID, ends, samples, starts))))


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 9.6))
    figure.get_layout_engine().set(h_pad=0.1)
    (sets, curves), (mean, hidden), surfaces = figure.subplots(3, 2)
    for name, color in (("union", "0.88"), ("intersection", "0.65")):
        sets.contourf(*GRID.T, result.heights[name], levels=[-9, 0], colors=color)
    sets.plot([-0.1, 0.06], [-0.3, 0.35], "o-", color="C0", label="intersection: stays inside")
    sets.plot([-0.7, 0.7], [0.65, 0.65], "s--", color="C1", label="union: leaves")
    sets.set(title="Sets and their chords", aspect="equal", ylim=(-0.9, 1.5))

    for name, f in CURVES.items():
        (line,) = curves.plot(X, f(X), label=f"{name},  f'' ≥ {result.curvature[name]:.2g}")
        curves.plot(X[[60, 160]], f(X[[60, 160]]), "o-", color=line.get_color(), linewidth=0.8, markersize=4)
    curves.set(title="Chords lie above convex graphs", xlabel="x", ylim=(-1.2, 6.5))

    for name, marker in zip(CURVES, "os^", strict=True):
        mean.plot(result.jensen[name], marker, markersize=4, label=name)
    mean.axhline(0, color="0.4", linewidth=0.8)
    mean.set(title="E[f(X)] - f(E[X]) of 50 samples", xlabel="sample", ylim=(-1.6, 2.4))

    hidden.plot(X, result.surprise[0], label="E[-log p(x|y)]")
    hidden.plot(X, result.surprise[1], label="-log p(x)")
    hidden.set(title="An upper bound on -log p(x)", xlabel="x", ylim=(0, 20))

    for axes, name in zip(surfaces, SURFACES, strict=True):
        paths = result.paths[name]
        axes.contourf(*GRID.T, result.heights[name], levels=[-9, 0], colors="0.88")
        axes.contour(*GRID.T, result.heights[name], levels=12, colors="0.6", linewidths=0.6, linestyles="-")
        axes.plot(*paths.T, "-", color="C0", linewidth=0.9)
        axes.plot(*paths[:, -1].T, "s", color="C1", markersize=7)
        axes.set(title=f"{name}: a sublevel set, and descent", aspect="equal")
    for axes in (sets, curves, mean, hidden):
        axes.legend(loc="upper center")
    return figure


def conclusion(result: Result) -> str:
    lows = {name: len(np.unique(paths[:, -1].round(1), axis=0)) for name, paths in result.paths.items()}
    return (
        f"Descent from 16 starts finds {lows['log-sum-exp']} minimum of the convex function and {lows['double well']} "
        "of the double well. The midpoint of two points in a set is always in the set if the set is convex; for the "
        f"sublevel set of the double well it is so in {result.midpoints['double well']:.0%} of all cases."
    )


if __name__ == "__main__":
    page.main(__file__)
