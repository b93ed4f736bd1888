"""Newton, quasi-Newton, and the diagonal of the Hessian.

Gradient descent has one learning rate for all directions: the steepest direction limits it, and the flattest is slow.
Newton's method divides by the curvature, so it reaches the minimum of a quadratic in one step. Dividing by the diagonal
of the Hessian costs less, and is as good if only the scales of the axes differ. On the same bowl turned by 45 degrees
the diagonal entries are equal, so dividing by them gives gradient descent.

BFGS learns the curvature from the gradients that it sees. Along Rosenbrock's curved valley it needs a hundredth of the
steps of gradient descent, and no Hessian. The counts of evaluations are evaluations of the function with its gradient;
they leave out the Hessian that Newton's method computes in every step.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page
from examples.textbook.trajectory import trajectory

D2L, URL = "Zhang et al., Dive into Deep Learning, section 12.3.3", "https://d2l.ai/chapter_optimization/gd.html"
NOCEDAL = "Nocedal and Wright, 2006, Numerical Optimization"
FORMULAS = [
    page.Formula(r"x \leftarrow x - H^{-1} \nabla f(x)", "Newton: to the minimum of the quadratic model.", D2L, URL),
    page.Formula(r"x \leftarrow x - \eta \, \mathrm{diag}(H)^{-1} \nabla f(x)", "Preconditioning.", D2L, URL),
    page.Formula(
        r"B \leftarrow (I - \rho s y^\top) B (I - \rho y s^\top) + \rho s s^\top, \quad \rho = 1 / s^\top y",
        "BFGS: an inverse Hessian from the last step s and the change y of the gradient.",
        f"Broyden, Fletcher, Goldfarb and Shanno, 1970; {NOCEDAL}, section 6.1",
    ),
    page.Formula(
        r"\frac{f(x_{t+1})}{f(x_t)} \le \left( \frac{\kappa - 1}{\kappa + 1} \right)^2",
        "Gradient descent on a quadratic with condition number kappa, at its best rate.",
        f"{NOCEDAL}, theorem 3.3",
    ),
]

CURVATURES = (1.0, 20.0)
ALONG, ACROSS = 5.0, 0.25  # the start on the bowls: equal slopes, where gradient descent is slowest
START = (-1.2, 1.0)  # in the valley
METHODS = ("gradient descent", "diagonal", "BFGS", "Newton")
MARKERS = dict(zip(METHODS, "os^D", strict=True))


class Result(NamedTuple):
    """By method: the points on both bowls and in the valley, and how `gx.minimize` ended there."""

    bowl: dict[str, np.ndarray]
    turned: dict[str, np.ndarray]
    valley: dict[str, np.ndarray]
    ends: dict[str, Any]


def bowl(x: jax.Array) -> jax.Array:
    return jnp.array(CURVATURES) @ x**2 / 2


def turned(x: jax.Array) -> jax.Array:
    """Evaluates the bowl turned by 45 degrees."""
    return bowl(jnp.array([x[0] + x[1], x[1] - x[0]]) * jnp.sqrt(0.5))


def rosenbrock(x: jax.Array) -> jax.Array:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def diagonal(fn: Any) -> gx.stateless:
    return gx.stateless(lambda grad, x: -grad / gx.hessian_diag(fn, x))


@partial(jax.jit, static_argnums=(0, 1, 3))
def points(fn: Any, tx: gx.GradientTransformation, start: jax.Array, steps: int) -> jax.Array:
    return trajectory(fn, tx, start, steps)


def on_bowl(fn: Any, start: jax.Array) -> dict[str, np.ndarray]:
    best = gx.sgd(2 / sum(CURVATURES))
    methods = {"gradient descent": best, "diagonal": diagonal(fn), "Newton": gx.newton()}
    return {name: np.asarray(points(fn, tx, start, 30)) for name, tx in methods.items()}


def compute() -> Result:
    search, start = gx.scale_by_backtracking_linesearch(20), jnp.array(START)
    descent, scaled = gx.chain(gx.sgd(1.0), search), gx.chain(diagonal(rosenbrock), search)
    solvers = dict(zip(METHODS, (descent, scaled, gx.bfgs(), gx.newton()), strict=True))
    ends = {name: gx.minimize(rosenbrock, start, tx, tol=1e-3, maxiter=20_000) for name, tx in solvers.items()}
    return Result(
        on_bowl(bowl, jnp.array([ALONG, ACROSS])),
        on_bowl(turned, jnp.array([ALONG - ACROSS, ALONG + ACROSS]) * np.sqrt(0.5, dtype=np.float32)),
        {name: np.asarray(points(rosenbrock, solvers[name], start, 40)) for name in ("BFGS", "Newton")},
        ends,
    )


def landscape(ax: Axes, fn: Any, x: tuple[float, float], y: tuple[float, float], levels: Any) -> None:
    grid = np.meshgrid(np.linspace(*x, 120), np.linspace(*y, 120))
    heights = jax.vmap(jax.vmap(fn))(jnp.stack(grid, axis=-1))
    ax.contour(*grid, heights, levels=levels, colors="0.8", linewidths=0.8, linestyles="solid", zorder=0)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")


def paths(ax: Axes, found: dict[str, np.ndarray], minimum: tuple[float, float]) -> None:
    for name, path in found.items():
        size = 8 if name == "gradient descent" else 4
        line = {"color": f"C{METHODS.index(name)}", "marker": MARKERS[name], "markersize": size, "linewidth": 1.2}
        ax.plot(*path.T, **line, label="diagonal of the Hessian" if name == "diagonal" else name)
    ax.plot(*minimum, "k*", markersize=12)
    ax.legend(loc="lower left" if minimum != (0, 0) else "upper left")


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 8))
    (straight, turn), (valley, bars) = figure.subplots(2, 2)
    for ax, fn, found in ((straight, bowl, result.bowl), (turn, turned, result.turned)):
        landscape(ax, fn, (-1.5, 5.5), (-1.5, 5.5), [0.5, 2, 5, 10, 20, 40])
        paths(ax, found, (0, 0))
    valley.set_title("Rosenbrock's valley")
    straight.set_title("Badly scaled axes: the diagonal suffices")
    turn.set_title("Turned by 45°: it is gradient descent")
    landscape(valley, rosenbrock, (-1.6, 1.6), (-3.6, 1.9), np.geomspace(1, 2000, 9))
    paths(valley, result.valley, (1, 1))
    rows = -np.arange(len(METHODS))
    for shift, colour, kind in ((0.2, "0.35", "steps"), (-0.2, "0.75", "evaluations")):
        counts = [int(getattr(end, kind)) for end in result.ends.values()]
        drawn = bars.barh(rows + shift, counts, 0.36, color=colour, label=kind)
        bars.bar_label(drawn, [f"{count:,}" for count in counts], padding=3, fontsize="small")
    bars.legend(loc="lower right")
    bars.set_yticks(rows, [name.replace(" ", "\n") for name in METHODS])
    bars.set(title="Work to reach its minimum", xscale="log", xlim=(1, 3e5), xlabel="until the gradient's norm is 1e-3")
    return figure


def conclusion(result: Result) -> str:
    descent, _, bfgs, newton = (int(end.steps) for end in result.ends.values())
    return (
        f"To reach the minimum of Rosenbrock's valley, gradient descent takes {descent:,} steps, BFGS {bfgs} and "
        f"Newton's method {newton}. The diagonal of the Hessian suffices if the axes differ only in scale; on a bowl "
        "at 45 degrees it is gradient descent."
    )


if __name__ == "__main__":
    page.main(__file__)
