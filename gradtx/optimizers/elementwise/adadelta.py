"""AdaDelta: steps in the unit of past steps, without a learning rate of their own.

    e_t = rho * e_(t-1) + (1 - rho) * |g_t|^2
    u_t = g_t * sqrt(d_(t-1) + eps) / sqrt(e_t + eps)
    d_t = rho * d_(t-1) + (1 - rho) * |u_t|^2

Zeiler, 2012, "ADADELTA: An Adaptive Learning Rate Method", algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAdaDeltaState", "adadelta", "scale_by_adadelta"]


class ScaleByAdaDeltaState(NamedTuple):
    """The steps taken, and the moving averages of the squared gradient and of the squared step."""

    e_g: Array = per_param(real=True, signed=False)
    e_x: Array = per_param(real=True, signed=False)
    count: Array = counter()


class scale_by_adadelta(Elementwise, state=ScaleByAdaDeltaState):
    """The rule of AdaDelta. `rho` lies in [0, 1), `eps` is not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adadelta(rho=0.5, eps=1.0)
    >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(f"{updates[0]:.4f}")  # 2 / sqrt(3)
    1.1547
    """

    rho: Hyper = hyper(default=0.9, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        e_g = leaf.moment(slots.e_g, leaf.abs_sq(g), self.rho)
        u = g * (leaf.root(slots.e_x, self.eps) / leaf.root(e_g, self.eps))
        e_x = leaf.moment(slots.e_x, leaf.abs_sq(u), self.rho)
        return u, slots._replace(e_g=e_g, e_x=e_x)


@constructor
def adadelta(
    learning_rate: HyperArg = 1.0,
    rho: HyperArg = 0.9,
    eps: HyperArg = 1e-6,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """AdaDelta; the learning rate 1 is the paper's. State: two arrays per parameter.

    The decay is an L2 penalty: it is added to the gradient before the rule. `update` needs params
    unless `weight_decay` is the number 0, which leaves the link out. (optax takes the sign flip
    away with the learning rate: its `adadelta()` ascends.)

    >>> import gradtx as gx
    >>> gx.adadelta()
    chain(scale_by_adadelta(rho=0.9, eps=1e-06), scale_by_learning_rate(learning_rate=1.0))
    """
    decay = add_decayed_weights(weight_decay, mask)
    rule = chain(scale_by_adadelta(rho, eps), scale_by_learning_rate(learning_rate))
    if leaf.is_number(decay.weight_decay) and decay.weight_decay == 0:
        return rule
    return chain(decay, *rule.links)
