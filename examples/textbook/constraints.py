"""Constraints.

We look for the point nearest to (2, 1) in a small set (grey): in the unit disc, and not below y = 0.6. The solution is
the corner (0.8, 0.6), where both constraints are active.

The Lagrangian adds each constraint to the loss, times a multiplier. Descent in the parameters with ascent in the
multipliers spirals into the solution. A penalty is simpler, but its minimum violates each constraint, by about
multiplier / weight. Projection moves each gradient step to the nearest point of the set, so it never leaves the set.

Gradient clipping is a projection as well: it moves each gradient to the nearest point of a ball.
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

TARGET, START, RATE = (2.0, 1.0), (-0.6, 0.7), 0.25
SOLUTION, MULTIPLIERS = np.array([0.8, 0.6]), np.array([0.75, 0.5])
WEIGHTS = np.logspace(-0.5, 3, 22, dtype=np.float32)
GRID = np.stack(np.meshgrid(np.linspace(-0.9, 2.1, 151), np.linspace(0, 1.5, 151)), axis=-1).astype(np.float32)
D2L = "Zhang et al., Dive into Deep Learning, section 12.2.3", "https://d2l.ai/chapter_optimization/convexity.html"

FORMULAS = [
    page.Formula(r"\min_p \tfrac{1}{2} \|p - (2, 1)\|^2, \; \|p\| \le 1, \; y \ge 0.6", "The problem.", "our example"),
    page.Formula(r"L(p, \alpha) = f(p) + \sum_i \alpha_i g_i(p), \; \alpha_i \ge 0", "The Lagrangian.", *D2L),
    page.Formula(
        r"p \leftarrow p - \eta \nabla_p L, \quad \alpha \leftarrow \max(0, \alpha + \rho\, g(p))",
        "Descent and ascent, which lead to its saddle point.",
        "Arrow, Hurwicz and Uzawa, 1958, Studies in Linear and Non-Linear Programming",
    ),
    page.Formula(
        r"f(p) + \frac{w}{2} \sum_i \max(0, g_i(p))^2, \quad g_i(p_w) \approx \frac{\alpha_i}{w}",
        "A quadratic penalty, and how far its minimum is outside of the set.",
        "Nocedal and Wright, 2006, Numerical Optimization, section 17.1",
        "https://doi.org/10.1007/978-0-387-40065-5",
    ),
    page.Formula(r"P_K(p) = \operatorname{argmin}_{q \in K} \|q - p\|", "Projection onto a set K.", *D2L),
    page.Formula(r"g \leftarrow g \min(1, \theta / \|g\|)", "Clipping, a projection onto a ball.", *D2L),
]


class Result(NamedTuple):
    """Paths, the minima for each weight of the penalty, and gradients, also shortened in two ways."""

    lagrangian: gx.LagrangianPoint
    penalty: np.ndarray
    projection: np.ndarray
    gradients: np.ndarray
    clipped: np.ndarray  # the gradients by clip_by_global_norm, and by projection_l2_ball
    projected: np.ndarray


def loss(p):
    return 0.5 * jnp.sum((p - jnp.array(TARGET)) ** 2)


def constraints(p):
    return jnp.stack([jnp.sum(p**2) - 1, 0.6 - p[1]])


def nearest(p):
    upper = (jnp.array([0.0, -1.0]), -0.6)
    return gx.projection_intersection(
        p, [gx.projection_l2_ball, lambda p: gx.projection_halfspace(p, *upper)], tol=1e-6
    )


@jax.jit
def measured(start, weights, gradients) -> Result:
    problem = gx.lagrangian(loss, inequality=constraints)
    dual = trajectory(problem, problem.optimizer(gx.sgd(0.1), multiplier_rate=0.2), problem.init(start), 150)
    penalized = gx.penalty(loss, inequality=constraints)
    minima = jax.vmap(lambda w: gx.minimize(penalized.replace(weight=w), start, tol=1e-3, maxiter=100).params)(weights)
    path = trajectory(loss, gx.chain(gx.sgd(RATE), gx.project(nearest)), start, 12)
    clip = gx.clip_by_global_norm(1.0)
    clipped = jax.vmap(lambda g: clip.update(g, clip.init(g))[0])(gradients)
    return Result(dual, minima, path, gradients, clipped, jax.vmap(gx.projection_l2_ball)(gradients))


def compute() -> Result:
    gradients = np.random.default_rng(2).normal(0, 1.1, (30, 2)).astype(np.float32)
    return jax.device_get(measured(jnp.array(START), WEIGHTS, gradients))


def violations(result: Result) -> np.ndarray:
    """Returns by how much the minimum for each penalty weight violates the two constraints."""
    return np.stack([np.sum(result.penalty**2, axis=1) - 1, 0.6 - result.penalty[:, 1]])


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 7.8))
    figure.get_layout_engine().set(h_pad=0.08)
    (spiral, forces), (outside, violation), (inside, ball) = figure.subplots(3, 2)
    for plane in (spiral, outside, inside):
        x, y = GRID.T
        plane.contourf(x, y, np.maximum(x**2 + y**2 - 1, 0.6 - y), levels=[-9, 0], colors="0.85")
        plane.contour(x, y, (x - 2) ** 2 + (y - 1) ** 2, levels=14, colors="0.8", linewidths=0.6)
        plane.plot(*TARGET, "k+", markersize=9)
        plane.plot(*SOLUTION, "k*", markersize=11, zorder=4)
        plane.set(xlabel="x", ylabel="y", aspect="equal")
    spiral.plot(*result.lagrangian.params.T, "o-", color="C0", markersize=2.5, linewidth=0.9)
    spiral.set(title="Lagrangian: a spiral into the solution")
    outside.plot(*result.penalty.T, "s-", color="C1", markersize=4, linewidth=0.9)
    outside.annotate(f"w = {WEIGHTS[0]:.1f}", result.penalty[0], (5, -4), textcoords="offset points", fontsize=9)
    outside.set(title="Penalty: the minima lie outside")
    for p in result.projection[:-1]:
        q = p - RATE * (p - np.array(TARGET))
        inside.annotate("", q, p, arrowprops={"arrowstyle": "->", "color": "C1", "shrinkA": 0, "shrinkB": 0})
    inside.plot(*result.projection.T, "^-", color="C2", markersize=5)
    inside.set(title="Projection: a step out, then back")

    alphas = result.lagrangian.multipliers["inequality"].T
    for name, alpha, value, over in zip(("disc", "y ≥ 0.6"), alphas, MULTIPLIERS, violations(result), strict=True):
        (line,) = forces.plot(alpha, label=f"multiplier of {name}")
        forces.axhline(value, color=line.get_color(), linestyle=":", linewidth=1)
        violation.loglog(WEIGHTS, over, "so"[name == "disc"], markersize=4, label=name)
        violation.plot(WEIGHTS, value / WEIGHTS, "--", color=line.get_color(), linewidth=1, label=f"{value} / w")
    forces.set(title="The multipliers approach 3/4 and 1/2", xlabel="step", ylabel="multiplier")
    violation.set(title="Violation, and multiplier / weight", xlabel="weight w", ylabel="violation")

    for g, c in zip(result.gradients, result.clipped, strict=True):
        ball.plot(*np.stack([g, c]).T, "-", color="0.6", linewidth=0.8)
    ball.plot(*(f(np.linspace(0, 2 * np.pi, 99)) for f in (np.cos, np.sin)), ":", color="0.3", label="ball of radius 1")
    ball.plot(*result.gradients.T, "o", color="C0", markersize=4, label="gradient")
    ball.plot(*result.clipped.T, "x", color="C1", markersize=5, label="clipped to norm 1")
    ball.set(title="Clipping: the nearest point of a ball", aspect="equal", xlim=(-8, 3))
    for axes, place in ((forces, "lower right"), (violation, "upper right"), (ball, "center left")):
        axes.legend(loc=place)
    return figure


def conclusion(result: Result) -> str:
    alpha, beta = result.lagrangian.multipliers["inequality"][-1]
    return (
        f"The multipliers converge to {alpha:.3f} and {beta:.3f}, as predicted. A penalty of weight {WEIGHTS[-1]:,.0f} "
        f"violates a constraint by {violations(result)[:, -1].max():.4f}. Projection never leaves the set."
    )


if __name__ == "__main__":
    page.main(__file__)
