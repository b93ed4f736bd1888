"""MADGRAD: dual averaging with the cube root of the weighted sum of squares, and momentum.

    w_t = (eta_t + eps) * sqrt(t)
    s_t = s_(t-1) + w_t * g_t
    v_t = v_(t-1) + w_t * |g_t|^2
    z_t = x_1 - s_t / (cbrt(v_t) + eps)
    x_(t+1) = momentum * x_t + (1 - momentum) * z_t

Defazio and Jelassi, 2021, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient
Method for Stochastic Optimization", algorithm 1, with the eps beside the rate as in the authors' code.
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
from gradtx.types import Mask, Slots

__all__ = ["MadgradState", "madgrad", "scale_by_madgrad"]


class MadgradState(NamedTuple):
    """The steps taken, the weighted sums of squares and of gradients, and x_1."""

    count: Array = counter()
    grad_sum_sq: Array = per_param(real=True, signed=False)
    s: Array = per_param()
    x0: Array = per_param(start=PARAM)


class scale_by_madgrad(Elementwise, state=MadgradState, needs=("params",)):
    """The rule of MADGRAD: it descends by itself.

    `learning_rate` and `eps` are not negative, `momentum` lies in [0, 1].

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_madgrad(1.0, momentum=0.0, eps=0.0)
    >>> print(tx.update(jnp.array([8.0]), tx.init(jnp.zeros(1)), jnp.zeros(1))[0].round(3))  # -8 / cbrt(64)
    [-2.]
    """

    learning_rate: Hyper = hyper(ge=0)
    momentum: Hyper = hyper(default=0.9, ge=0, le=1)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """The weight of the gradient, w_t."""
        return (self.learning_rate + self.eps) * jnp.sqrt(t.astype(float)), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        squares = leaf.finite_sum(slots.grad_sum_sq, leaf.abs_sq(g) * shared)
        s = slots.s + leaf.bounded(g) * shared
        cube_root = jnp.cbrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))
        z = slots.x0 - s / (cube_root + self.eps)
        return (z - p) * (1 - self.momentum), slots._replace(grad_sum_sq=squares, s=s)


@constructor
def madgrad(
    learning_rate: HyperArg,
    momentum: HyperArg = 0.9,
    weight_decay: HyperArg = 0.0,
    eps: HyperArg = 1e-6,
    mask: Mask = None,
) -> chain:
    """MADGRAD; the decay is an L2 penalty. State: three arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.madgrad(1e-2).links[-1]
    scale_by_madgrad(learning_rate=0.01, momentum=0.9, eps=1e-06)
    """
    return chain(add_decayed_weights(weight_decay, mask), scale_by_madgrad(learning_rate, momentum, eps))
