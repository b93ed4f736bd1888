"""Local minima, saddle points, vanishing gradients.

In three kinds of places the gradient is zero, or nearly zero, although the loss could be much lower. Gradient descent
ends in the minimum of the valley where it starts, which may be only a local one. At a saddle point the loss falls in
some directions and rises in others. Newton's method looks for a zero gradient, so the saddle point attracts it, unless
it takes the absolute values of the eigenvalues. And where tanh is flat, descent hardly moves for thousands of steps.

Another parametrization helps in the last case: descent on the output u = tanh(x) has slope 1 everywhere.
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

STARTS = np.linspace(-0.95, 1.95, 30, dtype=np.float32)
SADDLE_START = (0.9, 0.04)
FLAT_START = 4.0
RATE = 0.1  # the learning rate of descent on tanh
D2L = (
    "Zhang et al., Dive into Deep Learning, section 12.1",
    "https://d2l.ai/chapter_optimization/optimization-intro.html",
)

FORMULAS = [
    page.Formula(r"f(x) = x \cos(\pi x), \quad -1 \le x \le 2", "A local minimum and a global one.", *D2L),
    page.Formula(r"f(x, y) = x^2 - y^2", "A saddle point: the gradient vanishes at 0, which is no minimum.", *D2L),
    page.Formula(
        r"x \leftarrow x - \eta \left|H\right|^{-1} \nabla f, \quad \left|H\right| = V \left|\Lambda\right| V^\top",
        "Newton's method with the absolute values of the eigenvalues of H, which moves away from saddle points.",
        "Dauphin et al., 2014, Identifying and attacking the saddle point problem",
        "https://arxiv.org/abs/1406.2572",
    ),
    page.Formula(r"\tanh'(x) = 1 - \tanh^2(x), \quad \tanh'(4) \approx 0.0013", "A gradient that vanishes.", *D2L),
    page.Formula(
        r"t(4 \to 0) = \frac{1}{\eta} \int_0^4 \cosh^2 x \, dx = \frac{1}{\eta}\left(2 + \tfrac{1}{4} \sinh 8\right)",
        "How many small steps of descent on tanh lead from 4 to 0. On u = tanh(x) it takes tanh(4) / eta.",
        "separation of variables in x' = -1 / cosh(x)^2",
    ),
]


class Result(NamedTuple):
    """Paths of descent from all starts, of three methods near the saddle point, and of two parametrizations of tanh."""

    descents: np.ndarray
    saddle: dict[str, np.ndarray]
    x: np.ndarray
    u: np.ndarray


def hilly(x):
    return x * jnp.cos(jnp.pi * x)


def saddle(p):
    return p[0] ** 2 - p[1] ** 2


def compute() -> Result:
    descents = jax.vmap(lambda x: trajectory(hilly, gx.sgd(0.02), x, 100))(jnp.asarray(STARTS))
    methods = {
        "gradient descent": gx.sgd(0.05),
        'newton(hessian="exact")': gx.newton(0.25, hessian="exact"),
        'newton(hessian="absolute")': gx.newton(0.25, hessian="absolute"),
    }
    paths = {name: trajectory(saddle, tx, jnp.array(SADDLE_START), 14) for name, tx in methods.items()}
    x = trajectory(jnp.tanh, gx.sgd(RATE), jnp.array(FLAT_START), 4000)
    tx = gx.chain(gx.sgd(RATE), gx.clip_params(-1.0, 1.0))  # the range of tanh
    u = trajectory(lambda u: u, tx, jnp.tanh(FLAT_START), 4000)
    return Result(
        np.asarray(descents), {k: np.asarray(path) for k, path in paths.items()}, np.asarray(x), np.asarray(u)
    )


def crossing(path: np.ndarray) -> int:
    """Returns the first step at which a decreasing path is at or below 0."""
    return int(np.argmax(path <= 0))


def predicted_crossings() -> tuple[float, float]:
    """Returns the predicted crossings of descent on x and on u = tanh(x), in the limit of small steps."""
    return (FLAT_START / 2 + np.sinh(2 * FLAT_START) / 4) / RATE, np.tanh(FLAT_START) / RATE


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 6.4))
    (hills, near), (flat, race) = figure.subplots(2, 2)

    x = np.linspace(-1, 2, 300)
    hills.plot(x, hilly(x), color="0.4", linewidth=1)
    ends = result.descents[:, -1]
    best = ends > 0.5
    for group, color, marker, label in ((~best, "C1", "s", "local minimum"), (best, "C0", "o", "global minimum")):
        hills.plot(STARTS[group], hilly(STARTS[group]), marker, color=color, markersize=4, linestyle="none")
        end = ends[group][0]
        hills.plot(
            end, hilly(end), marker, color=color, markersize=11, linestyle="none", label=f"{label}, x = {end:.2f}"
        )
    hills.set(title="Each start ends in the minimum of its valley", xlabel="x", ylabel="x cos(πx)")
    hills.legend(loc="upper left")

    a, b = np.meshgrid(np.linspace(-0.35, 1, 80), np.linspace(-0.25, 1, 80))
    near.contour(a, b, a**2 - b**2, levels=np.linspace(-1, 1, 17), colors="0.8", linewidths=0.7, linestyles="-")
    for (name, path), marker in zip(result.saddle.items(), "^so", strict=True):
        near.plot(*path.T, marker=marker, markersize=4, label=name)
    near.plot(0, 0, "kx", markersize=9)
    near.annotate("saddle point", (0, 0), (-0.3, -0.18))
    near.set(title="$x^2 - y^2$ from (0.9, 0.04)", xlabel="x", ylabel="y", xlim=(-0.35, 1), ylim=(-0.25, 1))
    near.legend(loc="upper right")

    x = np.linspace(-2, 5, 300)
    flat.plot(x, np.tanh(x), color="0.4", linewidth=1)
    for step in (0, 3000, 3700, 3750, 3760):
        point = result.x[step], np.tanh(result.x[step])
        flat.plot(*point, "o", color="C1", markersize=6)
        flat.annotate(f"{step:,}", point, (14, -15), textcoords="offset points", ha="center")
    flat.set(title="Descent on x from 4; the labels count steps", xlabel="x", ylabel="tanh(x)")

    steps = np.arange(1, len(result.u))
    race.semilogx(steps, np.tanh(result.x[1:]), color="C1", linestyle="--", label="descent on x")
    race.semilogx(steps, result.u[1:], color="C0", linestyle="-", label="descent on u = tanh(x)")
    for predicted in predicted_crossings():
        race.axvline(predicted, color="0.4", linestyle=":", linewidth=1, label="predicted" if predicted < 99 else "")
    race.set(title=f"To 0 in {crossing(result.x):,} steps on x, {crossing(result.u)} on u")
    race.set(xlabel="step", ylabel="tanh(x)")
    race.legend(loc="center right", bbox_to_anchor=(0.93, 0.5))
    return figure


def conclusion(result: Result) -> str:
    share = np.mean(result.descents[:, -1] > 0.5)
    ends = [np.linalg.norm(path[-1]) for path in result.saddle.values()]
    return (
        f"{share:.0%} of the starts reach the global minimum. Exact Newton ends {ends[1]:.2f} from the saddle point, "
        f"absolute Newton {ends[2]:.2f}. Descent on tanh(x) from x = 4 to 0 takes {crossing(result.x):,} steps; on u = "
        f"tanh(x) it takes {crossing(result.u)}."
    )


if __name__ == "__main__":
    page.main(__file__)
