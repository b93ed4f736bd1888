"""Clips updates entry by entry, leaf by leaf, or over the whole tree.

    clip                  u_i = max(-max_delta, min(max_delta, g_i))     every entry
    clip_by_block_rms     u = g / max(1, rms(g) / threshold)             every leaf
    clip_by_global_norm   u = g * min(1, max_norm / |g|)                 the tree as one vector

Pascanu, Mikolov and Bengio, 2013, "On the difficulty of training recurrent neural networks".
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
    """Clips every entry of the updates to [-max_delta, max_delta].

    Use it if single entries are extreme. It may change the direction of the gradient; `clip_by_global_norm` does not. A
    complex entry keeps its angle, and its absolute value is clipped.

    Args:
      max_delta: Largest absolute value of an entry. Not negative; infinity disables clipping.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
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
    """Scales down each leaf so that the root mean square of its entries is at most `threshold`.

    Put it after a transformation such as `scale_by_adam` and before the learning rate, as in Adafactor. Then the root
    mean square of each leaf's update is at most `threshold` times the learning rate. Each leaf is clipped separately.

        u = g / max(1, rms(g) / threshold)

    Args:
      threshold: Largest root mean square of a leaf's entries. Not negative; infinity disables clipping. Adafactor uses
        1.

    Returns:
      A transformation. It keeps no state except a step count.

    References:
      Shazeer and Stern, 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", section 6.

    Example:
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
    """The state of `clip_by_global_norm`: the number of steps, and the factor of the last step (1 without clipping)."""

    count: Array = counter()
    clip_factor: Array = per_tree(start=1.0, signed=False)


class clip_by_global_norm(Treewide, state=ClipByGlobalNormState):
    """Clips the gradient to a global norm: scales down the whole tree if its Euclidean norm exceeds `max_norm`.

    The usual protection against exploding gradients. Put it first in a chain: `chain(clip_by_global_norm(1.0),
    adamw(1e-3))`. All leaves are scaled by the same factor, so the direction of the gradient is unchanged.
    `gx.metrics(state)` reports the factor of the last step as `clip_factor`; if `clip_factor` is below 1 at most steps,
    `max_norm` may be too small for the model.

        u = g * min(1, max_norm / |g|),      |g| over all leaves

    The norm neither overflows nor underflows, not even in 16-bit dtypes. The result is the projection of all updates
    together onto the ball of radius `max_norm` (see `projection_l2_ball`).

    Args:
      max_norm: Largest Euclidean norm of all updates together. Not negative; infinity disables clipping. A number, an
        array or a schedule; 1.0 is common for language models.

    Returns:
      A transformation. State: a step count and the factor of the last step (8 bytes in total).

    References:
      Pascanu, Mikolov and Bengio, 2013, "On the difficulty of training recurrent neural networks".

    Example:
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
