"""COCOB: chooses the step size of every entry by a coin-betting strategy, without a learning rate.

    L_t = max(L_(t-1), |g_t|),   L_0 = eps          the largest absolute gradient
    G_t = G_(t-1) + |g_t|                           the sum of the absolute gradients
    R_t = max(R_(t-1) - g_t * (x_t - x_1), 0)       the reward: how much the loss has fallen
    C_t = C_(t-1) - g_t
    x_(t+1) = x_1 + C_t / (L_t * max(G_t + L_t, alpha * L_t)) * (L_t + R_t)

Orabona and Tommasi, 2017, "Training Deep Networks without Learning Rates Through Coin Betting", algorithm 2. If a
learning rate is given, the gradients are multiplied by it first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import PARAM, counter, per_param
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["COCOBState", "cocob", "scale_by_cocob"]


class COCOBState(NamedTuple):
    """The state of `scale_by_cocob`.

    `init_particles`: the initial parameters, x_1. `cumulative_gradients`: the negative sum of gradients, C. `scale`:
    the largest absolute gradient, L. `subgradients`: the sum of the absolute gradients, G. `reward`: the reward, R.
    `count`: the number of steps taken.
    """

    init_particles: Array = per_param(start=PARAM)
    cumulative_gradients: Array = per_param()
    scale: Array = per_param(start="eps", signed=False)
    subgradients: Array = per_param(signed=False)
    reward: Array = per_param(signed=False)
    count: Array = counter()


class scale_by_cocob(Elementwise, state=COCOBState, needs=("params",), real=True):
    """Chooses the step size of every entry by coin betting, without a learning rate.

    This is the transformation that `cocob` uses; the parameters must be real. Do not add `scale_by_learning_rate` after
    it, because the update already includes the step size and the minus sign.

    Args:
      alpha: Keeps the first updates small; a larger value makes the first updates smaller. Positive; default 100.
      eps: Initial value of the largest absolute gradient. Positive; default 1e-8.

    State: five arrays per parameter (20 bytes per entry in float32). `update` needs `params`.

    Reference: Orabona and Tommasi, 2017, "Training Deep Networks without Learning Rates Through Coin Betting",
    algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_cocob(alpha=1.0)
    >>> print(tx.update(jnp.array([3.0, -3.0]), tx.init(jnp.zeros(2)), jnp.zeros(2))[0])
    [-0.5  0.5]
    """

    alpha: Hyper = hyper(default=100.0, gt=0)
    eps: Hyper = hyper(default=1e-8, gt=0)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        g, start = leaf.bounded(g), slots.init_particles
        largest = jnp.maximum(slots.scale, jnp.abs(g))
        total = leaf.finite_sum(slots.subgradients, jnp.abs(g))
        reward = leaf.at_most(jnp.maximum(slots.reward - g * (p - start), 0), float(jnp.finfo(g.dtype).max))
        against = slots.cumulative_gradients - g
        # Dividing by the largest gradient first avoids the square of the largest gradient, which might overflow.
        bet = against / largest / jnp.maximum(total / largest + 1, self.alpha) * (1 + reward / largest)
        return start + bet - p, slots._replace(
            cumulative_gradients=against, scale=largest, subgradients=total, reward=reward
        )


@constructor
def cocob(
    learning_rate: HyperArg = 1.0,
    alpha: HyperArg = 100.0,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """Runs COCOB, which needs no learning rate.

    Use it when you do not want to choose a learning rate and have memory for five arrays per parameter. Each entry x
    bets a fraction of its reward R on the next gradient (Orabona and Tommasi, 2017, "Training Deep Networks without
    Learning Rates Through Coin Betting", algorithm 2):

        x <- x_1 + C / (L * max(G + L, alpha * L)) * (L + R)

    where x_1 is the initial value of x, C the negative sum of its gradients, L its largest absolute gradient, and G the
    sum of its absolute gradients.

    Args:
      learning_rate: Factor by which the gradients are multiplied: a number, or a schedule (a function of the step
        count); 1 gives the paper's method. Not negative; default 1.
      alpha: Keeps the first updates small; a larger value makes the first updates smaller. Positive; default 100.
      eps: Initial value of the largest absolute gradient. Positive; default 1e-8.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: five arrays per parameter (20 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.cocob().links[-1]
    scale_by_cocob(alpha=100.0, eps=1e-08)
    """
    rate = scale_by_learning_rate(learning_rate, flip_sign=False)
    return chain(add_decayed_weights(weight_decay, mask), rate, scale_by_cocob(alpha, eps))
