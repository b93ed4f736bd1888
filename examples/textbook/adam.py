"""Adam, NAdam and AdamW: bias correction, look-ahead and weight decay.

Adam's moments start at zero, so they are too small at first: the second moment, with b2 = 0.999, for about a thousand
steps. Without bias correction the first steps are several times the learning rate, and a run shoots far past its
minimum. The script writes out this uncorrected rule, as you would write a rule of your own.

NAdam applies the momentum of the next step already in this one, so when the gradient changes sign, it turns one step
earlier than Adam. AdamW shrinks all weights by the same factor. An L2 penalty is a part of the gradient instead, and
Adam divides it by the size of the gradient: where gradients are large, the weights hardly decay at all.
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
from gradtx import rules

KINGMA = (
    "Kingma and Ba, 2015, Adam: A Method for Stochastic Optimization, algorithm 1",
    "https://arxiv.org/abs/1412.6980",
)
DOZAT = "Dozat, 2016, Incorporating Nesterov Momentum into Adam", "https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ"
DECOUPLED = "Loshchilov and Hutter, 2019, Decoupled Weight Decay Regularization", "https://arxiv.org/abs/1711.05101"
MOMENTS = r"m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2"
CORRECTIONS = r"\hat m_t = \frac{m_t}{1 - \beta_1^t}, \quad \hat v_t = \frac{v_t}{1 - \beta_2^t}"
NADAM = r"\hat m_t = \beta_1 \frac{m_t}{1 - \beta_1^{t+1}} + (1 - \beta_1) \frac{g_t}{1 - \beta_1^t}"
ADAMW = r"x_t = x_{t-1} - \eta \left( \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda x_{t-1} \right)"
FORMULAS = [
    page.Formula(MOMENTS, "The moments.", *KINGMA),
    page.Formula(CORRECTIONS, "Their bias corrections.", *KINGMA),
    page.Formula(NADAM, "NAdam's first moment.", *DOZAT),
    page.Formula(ADAMW, "The step; with the decay lambda of AdamW, zero for Adam.", *DECOUPLED),
]

B1, B2 = 0.9, 0.999  # the defaults
STEPS, TURN = 2000, 200
NOISE = np.geomspace(1e-3, 1e3, 25, dtype=np.float32)  # standard deviations of gradients
COPIES, RATE, DECAY = 100, 1e-3, 1.0


class Moments(NamedTuple):
    count: jax.Array = rules.counter()
    mu: jax.Array = rules.per_param()
    nu: jax.Array = rules.per_param(signed=False)


class scale_by_uncorrected_adam(rules.Elementwise, state=Moments):
    """Adam without bias correction."""

    def update_leaf(self, g: Any, slots: Any, p: Any, shared: Any) -> tuple[Any, Any]:
        mu, nu = B1 * slots.mu + (1 - B1) * g, B2 * slots.nu + (1 - B2) * g**2
        return mu / jnp.sqrt(nu + 1e-16), slots._replace(mu=mu, nu=nu)


def uncorrected(rate: float) -> gx.chain:
    return gx.chain(scale_by_uncorrected_adam(), gx.scale_by_learning_rate(rate))


class Result(NamedTuple):
    """By method: steps for a gradient of 1, paths from 1 to 0, steps when the gradient turns, weights by noise."""

    sizes: dict[str, np.ndarray]
    paths: dict[str, np.ndarray]
    turns: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]


def steps(tx: gx.chain, grads: jax.Array) -> np.ndarray:
    """Returns the negative updates for a sequence of gradients."""
    return -np.asarray(jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], tx.init(grads[0]), grads)[1])


@jax.jit
def decayed(tx: gx.chain) -> jax.Array:
    """Returns the mean weights after a run in which gradients are only noise; the weights start at 1."""

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        w, state = carry
        grads = jnp.asarray(NOISE)[:, None] * jax.random.normal(key, w.shape)
        updates, state = tx.update(grads, state, w)
        return (gx.apply_updates(w, updates), state), None

    w = jnp.ones((len(NOISE), COPIES))
    return jax.lax.scan(step, (w, tx.init(w)), jax.random.split(jax.random.key(0), STEPS))[0][0].mean(axis=1)


def compute() -> Result:
    ones = jnp.ones(STEPS)
    turning = jnp.where(jnp.arange(TURN + 30) < TURN, 1.0, -1.0)
    penalized = gx.chain(gx.add_decayed_weights(DECAY), gx.scale_by_adam(), gx.scale_by_learning_rate(RATE))
    decays = {"AdamW": gx.adamw(RATE, weight_decay=DECAY), "Adam with an L2 penalty": penalized}
    starts = {"Adam": gx.adam, "without corrections": uncorrected}
    return Result(
        {name: steps(make(1.0), ones) for name, make in starts.items()},
        {
            name: np.asarray(trajectory(lambda x: x**2 / 2, make(0.05), jnp.ones(()), 150))
            for name, make in starts.items()
        },
        {"Adam": steps(gx.adam(1.0), turning), "NAdam": steps(gx.nadam(1.0), turning)},
        {name: np.asarray(decayed(tx)) for name, tx in decays.items()},
    )


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7.5))
    (start, path), (turn, decay) = figure.subplots(2, 2)
    for name, sizes in result.sizes.items():
        start.semilogx(1 + np.arange(STEPS), sizes, label=name)
        path.plot(result.paths[name], label=name)
    start.set(
        title="Steps for a gradient that is always 1", xlabel="step", ylabel="size / learning rate", ylim=(0, None)
    )
    path.set(title="From 1 to the minimum at 0", xlabel="step", ylabel="x")
    for (name, sizes), marker in zip(result.turns.items(), "os", strict=True):
        turn.plot(np.arange(-5, 25), sizes[TURN - 5 : TURN + 25], marker=marker, markersize=4, label=name)
    turn.axhline(0, color="0.7", linewidth=0.8, linestyle="-")
    turn.set(title="The gradient changes sign at step 0", xlabel="step", ylabel="size / learning rate")
    for (name, weights), marker in zip(result.weights.items(), "os", strict=True):
        decay.semilogx(NOISE, weights, marker=marker, markersize=4, label=name)
    decay.set(
        title=f"Weights after {STEPS:,} steps of decay",
        xlabel="size of the gradients",
        ylabel="weight that was 1",
        ylim=(-0.05, 1.1),
    )
    for ax in (start, path, turn, decay):
        ax.legend()
    return figure


def conclusion(result: Result) -> str:
    adamw, penalized = (weights[[0, -1]] for weights in result.weights.values())
    return (
        f"Without bias correction Adam takes steps of up to {result.sizes['without corrections'].max():.1f} learning "
        f"rates. AdamW shrinks a weight of 1 to {adamw[0]:.2f} where gradients are small and to {adamw[1]:.2f} where "
        f"they are large; an L2 penalty shrinks it to {penalized[0]:.2f} and to {penalized[1]:.2f}."
    )


if __name__ == "__main__":
    page.main(__file__)
