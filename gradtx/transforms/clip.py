"""Clipping: the nearest update in a box, or in a ball.

clip                  u_i = max(-max_delta, min(max_delta, g_i))     every entry
clip_by_block_rms     u = g / max(1, rms(g) / threshold)             every leaf
clip_by_global_norm   u = g * min(1, max_norm / |g|)                 the tree as one vector
(Pascanu, Mikolov and Bengio, 2013, "On the difficulty of training
recurrent neural networks")
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise, Layerwise, Shared, Treewide
from gradtx.core.metrics import reports
from gradtx.core.slots import counter, per_tree
from gradtx.types import Params, Slots, Updates

__all__ = ["ClipByGlobalNormState", "clip", "clip_by_block_rms", "clip_by_global_norm"]


class clip(Elementwise):
    """Every entry clipped to [-max_delta, max_delta]; `max_delta` is not negative.

    A complex entry keeps its angle: its modulus is clipped.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.clip(1.0)
    >>> print(tx.update(jnp.array([0.5, -3.0]), tx.init(jnp.zeros(2)))[0])
    [ 0.5 -1. ]
    """

    max_delta: Hyper = hyper(ge=0, infinite=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return leaf.clip(g, self.max_delta), slots

    def largest(self, incoming: float, most: float) -> float:
        return min(incoming, self.max_delta) if leaf.is_number(self.max_delta) else math.inf


class clip_by_block_rms(Layerwise):
    """Every leaf shrunk so that the root mean square of its entries is at most `threshold` (not negative).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.clip_by_block_rms(1.0)
    >>> print(tx.update(jnp.full(4, 3.0), tx.init(jnp.zeros(4)))[0])
    [1. 1. 1. 1.]
    """

    threshold: Hyper = hyper(ge=0, infinite=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        unscale, shrink = tree.shrinking(g, self.threshold * math.sqrt(g.size))
        return g * unscale * shrink, slots


@reports("clip_factor")
class ClipByGlobalNormState(NamedTuple):
    """The steps taken, and the factor of the last one: 1 where nothing was clipped."""

    count: Array = counter()
    clip_factor: Array = per_tree(start=1.0, signed=False)


class clip_by_global_norm(Treewide, state=ClipByGlobalNormState):
    """The whole tree shrunk so that its Euclidean norm is at most `max_norm` (not negative).

    This is the projection of the gradient onto the ball of that radius, `projection_l2_ball(updates, max_norm)`. The
    norm is right whenever it is representable, in 16-bit types too, and the result is right even where it is not. The
    factor is one of `metrics(state)`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.clip_by_global_norm(1.0)
    >>> grads = {"w": jnp.float16([300.0]), "b": jnp.float16([400.0])}
    >>> updates, _ = tx.update(grads, tx.init(grads))
    >>> print(updates["w"], updates["b"])
    [0.6] [0.8]
    """

    max_norm: Hyper = hyper(ge=0, infinite=True)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        unscale, shrink = tree.shrinking(updates, self.max_norm)
        return Shared(unscale=unscale, shrink=shrink), numbers._replace(clip_factor=unscale * shrink)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared.unscale * shared.shrink, slots

    def largest(self, incoming: float, most: float) -> float:
        return min(incoming, 1.01 * self.max_norm) if leaf.is_number(self.max_norm) else math.inf
