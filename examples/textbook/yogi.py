"""Adam forgets, Yogi does not.

Forty weights are learned from samples that have one feature each; the rare features appear once in hundreds of steps.
In between their gradients are zero, and Adam's second moment decays. When a rare feature appears again, Adam divides by
a second moment that is too small: the weight moves by about rate / sqrt(1 - b2) in all, however small the error has
become, and never settles. Yogi changes its second moment by at most (1 - b2) times the squared gradient, and not at all
for a gradient of zero. So its steps are in proportion to the error, and the error goes to zero.

The first gradient of a rare feature is a problem for Yogi, too: the second moment still has its small initial value, so
the first move is as long as Adam's. A lower bound on the second moment limits this move. In this comparison Adam has
Yogi's default eps, so that only the second moments differ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page

ZAHEER = (
    "Zaheer, Reddi, Sachan, Kale and Kumar, 2018, Adaptive Methods for Nonconvex Optimization",
    "https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization",
)
D2L = "Zhang et al., Dive into Deep Learning, section 12.10.3", "https://d2l.ai/chapter_optimization/adam.html"
JUMP = r"\eta \sum_{k=0}^\infty \frac{(1 - \beta_1) \beta_1^k g}{\sqrt{(1 - \beta_2) \beta_2^k g^2}}"
JUMP += r"\approx \frac{\eta}{\sqrt{1 - \beta_2}}"
FORMULAS = [
    page.Formula(r"v_t = v_{t-1} - (1 - \beta_2) (v_{t-1} - g_t^2)", "Adam's second moment.", *D2L),
    page.Formula(r"v_t = v_{t-1} - (1 - \beta_2) \, \mathrm{sign}(v_{t-1} - g_t^2) \, g_t^2", "Yogi's.", *ZAHEER),
    page.Formula(JUMP, "All that Adam moves for a gradient g after a long silence: g cancels.", "a geometric series"),
]

B2, FLOOR = 0.999, 0.1
METHODS = {
    "Adam": gx.adam(0.1, b2=B2, eps=1e-3),
    "Yogi": gx.yogi(0.1, b2=B2),
    "Yogi with a floor": gx.yogi(0.1, b2=B2, nu_floor=FLOOR),
}
FEATURES, STEPS, RUNS = 40, 20_000, 4
SHARES = np.arange(1, FEATURES + 1) ** -1.5 / sum(np.arange(1, FEATURES + 1) ** -1.5)
SHOWN = 24  # the feature in the upper panels
RATES = np.geomspace(1e-3, 1, 13, dtype=np.float32)
AT = 8  # the index of the rate 0.1


class Result(NamedTuple):
    """The steps that saw the shown feature; by method its second moment and weight, and errors by rate and feature."""

    seen: np.ndarray
    moments: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]


def run(tx: gx.chain, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns all weights after every step, which should be 1, and the second moment of the shown feature."""

    def step(carry: Any, feature: jax.Array) -> tuple[Any, Any]:
        w, state = carry
        grads = jnp.zeros(FEATURES).at[feature].set(w[feature] - 1)
        updates, state = tx.update(grads, state)
        w = gx.apply_updates(w, updates)
        return (w, state), (w, state[0].nu[SHOWN])

    w = jnp.zeros(FEATURES)
    return jax.lax.scan(step, (w, tx.init(w)), samples)[1]


@jax.jit
def late_errors(tx: gx.chain, samples: jax.Array) -> jax.Array:
    """Returns the mean error in the second half of the runs, for every learning rate and feature."""

    def one(rate: jax.Array, samples: jax.Array) -> jax.Array:
        weights = run(tx.replace(learning_rate=rate), samples)[0]
        return jnp.abs(weights[STEPS // 2 :] - 1).mean(axis=0)

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(RATES, samples).mean(axis=1)


def compute() -> Result:
    samples = np.random.default_rng(0).choice(FEATURES, (RUNS, STEPS), p=SHARES)
    runs = {name: jax.device_get(jax.jit(run)(tx, samples[0])) for name, tx in METHODS.items()}
    errors = {name: np.asarray(late_errors(tx, samples)) for name, tx in METHODS.items()}
    return Result(
        np.flatnonzero(samples[0] == SHOWN),
        {name: moments for name, (_, moments) in runs.items()},
        {name: weights[:, SHOWN] for name, (weights, _) in runs.items()},
        errors,
    )


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    (moment, weight), (feature, rate) = figure.subplots(2, 2)
    for name, marker in zip(METHODS, "os^", strict=True):
        moment.semilogy(result.moments[name], linewidth=1.2)
        weight.plot(result.weights[name], linewidth=1.2)
        errors = np.maximum(result.errors[name], 1e-7)  # smaller errors are rounding errors of float32
        feature.loglog(STEPS * SHARES, errors[AT], marker, markersize=4)
        rate.loglog(RATES, errors.mean(axis=1), marker=marker, markersize=4, label=name)
    for ax in (moment, weight):
        ax.plot(result.seen, np.zeros_like(result.seen), "|", color="0.3", transform=ax.get_xaxis_transform())
        ax.set(xlabel="step; ticks on the axis: the feature is seen")
    moment.set(title="Second moment for a rare feature", ylabel="v", ylim=(1e-6, 1))
    weight.set(title="Its weight, which should be 1", ylabel="weight")
    feature.set(title=f"All features, at rate {RATES[AT]:g}", xlabel="times seen", ylabel="error in the second half")
    rate.set(title="Mean over the features, at every rate", xlabel="learning rate", ylabel="error in the second half")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def conclusion(result: Result) -> str:
    adam, yogi, _ = (errors.mean(axis=1).min() for errors in result.errors.values())
    first = [weights.max() - 1 for weights in result.weights.values()]
    return (
        f"At the best of {len(RATES)} rates Adam's mean error stays at {adam:.3f}, while Yogi's is {yogi:.0e}. At rate "
        f"{RATES[AT]:g} the weight of a rare feature overshoots by {first[0]:.1f} with Adam, {first[1]:.1f} with Yogi, "
        f"and not at all with a floor of {FLOOR}."
    )


if __name__ == "__main__":
    page.main(__file__)
