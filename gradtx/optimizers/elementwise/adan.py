"""Adan: Nesterov momentum on the gradient and on its differences, over a second moment that sees both.

    d_t = g_t - g_(t-1),   d_1 = 0
    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * d_t
    n_t = b3 * n_(t-1) + (1 - b3) * |g_t + (1 - b2) * d_t|^2
    u_t = (m_t / (1 - b1^t) + (1 - b2) * v_t / (1 - b2^t)) / (sqrt(n_t / (1 - b3^t) + eps_root) + eps)

Xie et al., 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
algorithm 1, in optax's form: b here is 1 - beta of the paper, the factor of v is 1 - b2, and the
moments are corrected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAdanState", "adan", "scale_by_adan"]


class ScaleByAdanState(NamedTuple):
    """The steps taken, the moments of gradient, difference and their sum's square, and the last gradient.

    `weights` holds what averages with a scheduled decay weigh.
    """

    m: Array = per_param()
    v: Array = per_param()
    n: Array = per_param(real=True, signed=False)
    g: Array = per_param()
    count: Array = counter()
    weights: dict[str, Array] = average_weights()


class scale_by_adan(Elementwise, state=ScaleByAdanState, corrected=("b1", "b2", "b3")):
    """The rule of Adan. `b1`, `b2` and `b3` lie in [0, 1), `eps` and `eps_root` are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adan()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(3))
    [ 1. -1.]
    """

    b1: Hyper = hyper(default=0.98, ge=0, lt=1)
    b2: Hyper = hyper(default=0.92, ge=0, lt=1)
    b3: Hyper = hyper(default=0.99, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_m, grow_v, grow_n = (1 / self.weight(decay, t, numbers) for decay in self.corrected)
        return Shared(first=t == 1, grow_m=grow_m, grow_v=grow_v, grow_n=grow_n), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        now = leaf.bounded(g)  # so that the difference of two gradients is finite
        d = jnp.where(shared.first, 0, now - leaf.bounded(slots.g))
        m = leaf.moment(slots.m, now, self.b1)
        v = leaf.moment(slots.v, d, self.b2)
        n = leaf.moment(slots.n, leaf.abs_sq(g + d * (1 - self.b2)), self.b3)
        scale = 1 / (leaf.root(n * shared.grow_n, self.eps_root) + self.eps)
        u = m * scale * shared.grow_m + v * scale * (shared.grow_v * (1 - self.b2))
        return u, slots._replace(m=m, v=v, n=n, g=g)


@constructor
def adan(
    learning_rate: HyperArg,
    b1: HyperArg = 0.98,
    b2: HyperArg = 0.92,
    b3: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Adan with decoupled weight decay. State: four arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.adan(1e-3).links[0]
    scale_by_adan(b1=0.98, b2=0.92, b3=0.99, eps=1e-08, eps_root=1e-08)
    """
    rule = scale_by_adan(b1, b2, b3, eps, eps_root)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
