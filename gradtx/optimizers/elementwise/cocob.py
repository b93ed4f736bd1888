"""COCOB: every coordinate bets a fraction of what it has won, so no learning rate is needed.

    L_t = max(L_(t-1), |g_t|),   L_0 = eps          the largest gradient
    G_t = G_(t-1) + |g_t|                           all gradients
    R_t = max(R_(t-1) - g_t * (x_t - x_1), 0)       what was won
    C_t = C_(t-1) - g_t
    x_(t+1) = x_1 + C_t / (L_t * max(G_t + L_t, alpha * L_t)) * (L_t + R_t)

Orabona and Tommasi, 2017, "Training Deep Networks without Learning Rates Through Coin Betting",
algorithm 2. A learning rate scales the gradients on entry.
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
    """The steps taken, x_1, and C, L, G and R."""

    init_particles: Array = per_param(start=PARAM)
    cumulative_gradients: Array = per_param()
    scale: Array = per_param(start="eps", signed=False)
    subgradients: Array = per_param(signed=False)
    reward: Array = per_param(signed=False)
    count: Array = counter()


class scale_by_cocob(Elementwise, state=COCOBState, needs=("params",), real=True):
    """The rule of COCOB, for real parameters: it descends by itself. `alpha` and `eps` are positive.

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
        # Everything in units of the largest gradient, whose square might overflow.
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
    """COCOB; the decay is an L2 penalty. State: five arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.cocob().links[-1]
    scale_by_cocob(alpha=100.0, eps=1e-08)
    """
    rate = scale_by_learning_rate(learning_rate, flip_sign=False)
    return chain(add_decayed_weights(weight_decay, mask), rate, scale_by_cocob(alpha, eps))
