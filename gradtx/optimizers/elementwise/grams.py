"""Grams: the size of Adam's step, in the direction of the gradient's sign.

    u_t = sign(g_t) * |a_t|,   a_t the update of Adam

Cao et al., 2024, "Grams: Gradient Descent with Adaptive Momentum Scaling", algorithm 1.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import ScaleByAdamState, scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["grams", "scale_by_grams"]


class scale_by_grams(scale_by_adam, state=ScaleByAdamState):
    """The rule of Grams, without the learning rate: Adam's update with the signs of the gradient.

    It takes what `scale_by_adam` takes. Of a complex entry the sign is g / |g|. State: two arrays per parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_grams()
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (1.0, -0.1):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(updates.astype("float16"))
    [-0.593]
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        u, slots = super().update_leaf(g, slots, p, shared)
        return leaf.sign(g) * jnp.abs(u), slots


@constructor
def grams(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Grams, with decoupled weight decay on the leaves that `mask` selects (all by default).

    Take it where Adam's momentum overshoots: no entry ever moves against its gradient. State: two arrays per
    parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.grams(1e-3).links[0]
    scale_by_grams(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_grams(b1, b2, eps, eps_root, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
