"""AdaGrad, RMSProp and AdaDelta.

AdaGrad divides every coordinate by the root of the sum of its squared gradients. The weight of a feature that is rarely
seen keeps a high learning rate. But every learning rate falls, as the inverse root of the number of steps that saw a
gradient: when the target moves, AdaGrad falls behind. RMSProp takes a leaky average in place of the sum and keeps up.

AdaDelta derives the size of its steps from its past steps, so there is no learning rate to choose. If the loss is
multiplied by 0.01 or 100, its path stays almost the same, while gradient descent is slow or diverges. In the lower
panels every method has its best learning rate, found by a sweep in one `vmap`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page
from examples.textbook.trajectory import trajectory

D2L, URL = "Zhang et al., Dive into Deep Learning, section", "https://d2l.ai/chapter_optimization"
ADAGRAD = r"s_t = s_{t-1} + g_t^2, \quad u_t = \frac{\eta}{\sqrt{s_t + \epsilon}} g_t"
ADADELTA = r"u_t = \sqrt{\frac{d_{t-1} + \epsilon}{s_t + \epsilon}} g_t, \quad d_t = \rho d_{t-1} + (1 - \rho) u_t^2"
UNITS = "AdaDelta (Zeiler, 2012): steps in the unit of the steps before; s is RMSProp's, with rho for gamma."
HINTON = "RMSProp (Tieleman and Hinton, 2012, lecture 6.5)."
FORMULAS = [
    page.Formula(ADAGRAD, "AdaGrad (Duchi, Hazan and Singer, 2011).", f"{D2L} 12.7", f"{URL}/adagrad.html"),
    page.Formula(r"s_t = \gamma s_{t-1} + (1 - \gamma) g_t^2", HINTON, f"{D2L} 12.8", f"{URL}/rmsprop.html"),
    page.Formula(ADADELTA, UNITS, f"{D2L} 12.9", f"{URL}/adadelta.html"),
]

METHODS = {"AdaGrad": gx.adagrad(0.1, 0.0), "RMSProp": gx.rmsprop(0.01), "AdaDelta": gx.adadelta()}
STEPS = 1000
SCALES = (0.01, 1.0, 100.0)  # factors of the loss x^2 / 2
FEATURES, SAMPLES, RUNS = 50, 3000, 64
SHARES = 1 / np.arange(1, FEATURES + 1) / np.sum(1 / np.arange(1, FEATURES + 1))  # Zipf's law
PERIOD, PERIODS = 500, 8  # steps per period of the moving target, and number of periods
SWEEP = np.geomspace(0.01, 10, 13, dtype=np.float32)


class Result(NamedTuple):
    """Step sizes, and paths for each scale of the loss; by method: errors of features, and errors in every period."""

    sizes: dict[str, np.ndarray]
    scaled: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    tracking: dict[str, np.ndarray]


def follow(tx: gx.GradientTransformation, start: jax.Array, grad: Any, *data: Any) -> jax.Array:
    """Returns the points at which the gradients were computed, one for each entry of the data."""

    def step(carry: Any, entry: Any) -> tuple[Any, jax.Array]:
        x, state = carry
        updates, state = tx.update(grad(x, *entry), state)
        return (gx.apply_updates(x, updates), state), x

    return jax.lax.scan(step, (start, tx.init(start)), data)[1]


def sweep(run: Any, *data: np.ndarray) -> np.ndarray:
    """Returns the mean over all rows of the data, for every learning rate."""
    over_rows = jax.vmap(run, (None, *(0 for _ in data)))
    return np.asarray(jax.jit(jax.vmap(over_rows, (0, *(None for _ in data))))(SWEEP, *data)).mean(axis=1)


def rare_features(make: Any) -> np.ndarray:
    """Returns root mean squared errors of the weights, most frequent feature first, at the best learning rate."""

    def grad(w: jax.Array, feature: jax.Array, label: jax.Array) -> jax.Array:
        return jnp.zeros(FEATURES).at[feature].set(w[feature] - label)

    def run(rate: jax.Array, features: jax.Array, labels: jax.Array) -> jax.Array:
        return jnp.square(follow(make(rate), jnp.zeros(FEATURES), grad, features, labels)[-1] - 1)

    rng = np.random.default_rng(0)
    features, labels = rng.choice(FEATURES, (RUNS, SAMPLES), p=SHARES), rng.normal(1, 0.5, (RUNS, SAMPLES))
    squares = sweep(run, features, jnp.asarray(labels))
    return np.sqrt(squares[np.argmin(squares @ SHARES)])


def moving_target(make: Any) -> np.ndarray:
    """Returns mean squared distances from a target on a sine by period, at the rate that is best in the first one."""
    target = jnp.sin(2 * jnp.pi * jnp.arange(PERIOD * PERIODS) / PERIOD)

    def run(rate: jax.Array, noise: jax.Array) -> jax.Array:
        path = follow(make(rate), jnp.zeros(()), lambda x, c, n: x - c + n, target, noise)
        return jnp.square(path - target).reshape(PERIODS, PERIOD).mean(axis=1)

    noise = np.random.default_rng(0).normal(0, 0.5, (RUNS // 8, PERIOD * PERIODS))
    errors = sweep(run, jnp.asarray(noise))
    return errors[np.argmin(errors[:, 0])]


def compute() -> Result:
    ones = jnp.ones(STEPS + 1)
    sizes = {name: -np.diff(follow(tx, ones[0], lambda x, g: g, ones)) for name, tx in METHODS.items()}
    scaled = {}
    for name, tx in (("gradient descent", gx.sgd(0.05)), ("AdaDelta", gx.adadelta())):
        paths = [trajectory(lambda x, c=c: c * x**2 / 2, tx, jnp.ones(()), 500) for c in SCALES]
        scaled[name] = np.abs(np.stack(paths))
    falling = rare_features(lambda rate: gx.sgd(gx.inverse_power_schedule(rate, beta=1.0, alpha=0.5)))
    features = {"gradient descent": falling, "AdaGrad": rare_features(gx.adagrad)}
    tracking = {"AdaGrad": moving_target(gx.adagrad), "RMSProp": moving_target(gx.rmsprop)}
    return Result(sizes, scaled, features, tracking)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    (sizes, scaled), (features, tracking) = figure.subplots(2, 2)
    colours = {"gradient descent": "C6"} | {name: f"C{i}" for i, name in enumerate(METHODS)}
    for name, size in result.sizes.items():
        sizes.loglog(1 + np.arange(STEPS), size, color=colours[name], label=name)
    sizes.set(title="Steps for a gradient that is always 1", xlabel="step", ylabel="size of the step")
    sizes.legend()
    for name, paths in result.scaled.items():
        for path, scale, marker in zip(paths, SCALES, "osD", strict=True):
            line = {"color": colours[name], "linestyle": "-", "marker": marker, "markersize": 4, "markevery": (20, 60)}
            scaled.plot(path, **line, label=f"{name}, {scale:g} * loss")
    scaled.set(title="AdaDelta at any scale of the loss", xlabel="step", ylabel="distance", ylim=(-0.05, 1.7))
    scaled.legend(loc="upper right")
    for (name, error), marker in zip(result.features.items(), "os", strict=True):
        features.semilogx(SHARES, error, marker, color=colours[name], markersize=4, label=name)
    features.set(title="Rare features", xlabel="share of the samples that have it", ylabel="error of the weight")
    features.legend()
    for (name, error), line in zip(result.tracking.items(), ("o-", "s--"), strict=True):
        tracking.plot(1 + np.arange(PERIODS), error, line, color=colours[name], label=name)
    tracking.set(title="A target that moves", xlabel="period", ylabel="mean squared distance", ylim=(0, None))
    tracking.legend()
    return figure


def conclusion(result: Result) -> str:
    first, last = result.sizes["AdaGrad"][[0, -1]]
    behind, ahead = (error[-1] for error in result.tracking.values())
    rare = [error[-10:].mean() for error in result.features.values()]
    return (
        f"AdaGrad's step for a gradient of 1 falls from {first:.2g} to {last:.2g} in {STEPS:,} steps. The weights of "
        f"rare features have an error of {rare[1]:.2f} (gradient descent: {rare[0]:.2f}); from a moving target its "
        f"mean squared distance is {behind:.3f} (RMSProp: {ahead:.3f})."
    )


if __name__ == "__main__":
    page.main(__file__)
