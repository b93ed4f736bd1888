"""Risk and empirical risk.

We train on a sample, but we want to do well on all data. The risk f is the loss averaged over all data. The empirical
risk is the loss averaged over a sample: it fluctuates around f, so its minimum is not the minimum of f. The distance
between the two minima falls with the number n of points in the sample, as 1 / sqrt(n).

Here the loss of a data point with phase z is x cos(pi x) + 0.2 cos(5 pi x + z). Averaged over all phases, the second
term vanishes, which leaves f. The sample that consists of one point with z = 0 gives g.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page

SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000)
SAMPLES = 400  # number of samples of each size
BOUNDS = (0.5, 1.5)
D2L = (
    "Zhang et al., Dive into Deep Learning, section 12.1",
    "https://d2l.ai/chapter_optimization/optimization-intro.html",
)

FORMULAS = [
    page.Formula(r"f(x) = x \cos(\pi x)", "The risk: the loss, averaged over all data.", *D2L),
    page.Formula(r"g(x) = f(x) + 0.2 \cos(5 \pi x)", "An empirical risk: the loss, averaged over a sample.", *D2L),
    page.Formula(
        r"\hat{x}_n - x^* \approx \mathcal{N}\left(0, \frac{\operatorname{Var}[\ell'(x^*, z)]}{n f''(x^*)^2}\right)",
        "How far the minimum of n points is from the minimum of the risk, for large n. Its standard deviation is the "
        "dashed line on the right.",
        "van der Vaart, 1998, Asymptotic Statistics, theorem 5.23",
        "https://doi.org/10.1017/CBO9780511802256",
    ),
]


class Result(NamedTuple):
    """The minima of f and g; the minima of samples, of shape (samples, sizes); the spread that the formula predicts."""

    of_risk: float
    of_g: float
    of_samples: np.ndarray
    predicted: np.ndarray
    waves: np.ndarray  # for each empirical risk, the two means that `empirical` takes


def risk(x):
    return x * jnp.cos(jnp.pi * x)


def empirical(x, wave):
    """Computes the mean loss of a sample from two means of its phases: cos(a + z) = cos(a) cos(z) - sin(a) sin(z)."""
    return risk(x) + 0.2 * (wave[0] * jnp.cos(5 * jnp.pi * x) - wave[1] * jnp.sin(5 * jnp.pi * x))


@jax.jit
def minimum(wave):
    """Finds the lowest point between the bounds: the best point of a grid, improved by Newton's method."""
    grid = jnp.linspace(*BOUNDS, 101)
    start = grid[jnp.argmin(empirical(grid, wave))]
    return gx.minimize(lambda x: empirical(x, wave), start, gx.newton(), tol=1e-4, maxiter=10).params


def compute() -> Result:
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (SAMPLES, SIZES[-1]))
    sums = np.stack([np.cos(phases), np.sin(phases)]).cumsum(axis=2)
    waves = np.moveaxis(sums[..., np.array(SIZES) - 1] / SIZES, 0, -1)  # for each sample and each size
    known = jnp.array([[0.0, 0.0], [1.0, 0.0]])  # f and g
    minima = jax.vmap(minimum)(jnp.concatenate([known, waves.reshape(-1, 2)]))
    of_samples = np.asarray(minima[2:]).reshape(SAMPLES, len(SIZES))
    deviation = 0.2 * 5 * np.pi / np.sqrt(2) / jax.grad(jax.grad(risk))(minima[0])
    return Result(float(minima[0]), float(minima[1]), of_samples, np.asarray(deviation / np.sqrt(SIZES)), waves)


def distances(result: Result) -> np.ndarray:
    """Returns the root mean square distance between the minima of the samples and of the risk, for each sample size."""
    return np.sqrt(np.mean((result.of_samples - result.of_risk) ** 2, axis=0))


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 6.4))
    (two, few), (many, rate) = figure.subplots(2, 2)
    x = np.linspace(*BOUNDS, 300)

    for label, wave, minimum_of, marker in (
        ("f, the risk", (0, 0), result.of_risk, "o"),
        ("g, an empirical risk", (1, 0), result.of_g, "s"),
    ):
        (line,) = two.plot(x, empirical(x, wave), label=label)
        two.plot(minimum_of, empirical(minimum_of, wave), marker, color=line.get_color(), markersize=7)
    two.set(title="The minima of f and g lie apart", xlabel="x", ylabel="loss")
    two.legend(loc="upper center")

    for axes, size in ((few, 3), (many, 100)):
        waves, minima = (a[:25, SIZES.index(size)] for a in (result.waves, result.of_samples))
        for wave, x_min in zip(waves, minima, strict=True):
            axes.plot(x, empirical(x, wave), "-", color="0.6", linewidth=0.6, alpha=0.8)
            axes.plot(x_min, empirical(x_min, wave), "s", color="C1", markersize=4, zorder=3)
        axes.plot(x, risk(x), color="C0", linewidth=2)
        axes.axvline(result.of_risk, color="C0", linestyle=":")
        axes.set(title=f"25 samples of {size} points each", xlabel="x", ylabel="loss", ylim=two.get_ylim())

    rate.loglog(SIZES, distances(result), "s-", color="C1", label=f"measured on {SAMPLES} samples")
    rate.loglog(SIZES, result.predicted, "--", color="C0", label="predicted for large n")
    rate.set(title="More points bring the minima together")
    rate.set(xlabel="points in the sample, n", ylabel="distance of the minima (RMS)")
    rate.legend()
    return figure


def conclusion(result: Result) -> str:
    rms = dict(zip(SIZES, distances(result), strict=True))
    return (
        f"The minima of f and g lie {abs(result.of_g - result.of_risk):.3f} apart. The minimum of a sample of 30 "
        f"points lies {rms[30]:.3f} from that of f; with 100 times as many points the distance is {rms[3000]:.4f}, "
        f"{rms[30] / rms[3000]:.0f} times smaller."
    )


if __name__ == "__main__":
    page.main(__file__)
