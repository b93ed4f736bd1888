"""AdaGC: clips the gradient of each tensor relative to a moving average of its past norms.

    t < warmup_steps:   u_t = g_t * min(1, max_norm / |all gradients|),   n_t = the smallest |u| so far
    after that:         u_t = g_t * min(1, ratio * n_(t-1) / |g_t|),      n_t = decay * n_(t-1) + (1 - decay) * |u_t|

All norms are per tensor, except |all gradients|, the global norm. Wang et al., 2025, "AdaGC: Improving Training
Stability for Large Language Model Pretraining", algorithm 1. This implementation differs from the paper in one point: a
gradient of zeros leaves n_t unchanged, and a tensor whose gradients have all been zero so far is not clipped. (In the
paper n_t becomes zero, after which every gradient of the tensor is clipped to zero.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.slots import counter, reduced
from gradtx.core.value import integer
from gradtx.types import Params, Slots, Updates

__all__ = ["AdaGCState", "clip_by_past_norm"]


class AdaGCState(NamedTuple):
    """The state of `clip_by_past_norm`: the number of steps, and the moving average n of each tensor's gradient norm.

    n is 0 before the tensor's first nonzero gradient.
    """

    count: Array = counter()
    norm: Array = reduced(real=True, signed=False)


class clip_by_past_norm(Treewide, state=AdaGCState):
    """Clips the gradient of each tensor to `ratio` times the moving average of its norm (AdaGC).

    Put it before the optimizer: `chain(clip_by_past_norm(), adamw(1e-3))`. Prefer it to `clip_by_global_norm` when one
    layer has spikes: clipping by the global norm shrinks the updates of all layers, while this transformation shrinks
    only the update of the layer with the spike.

    Args:
      ratio: Largest norm that is not clipped, as a multiple of the tensor's average norm (default 1.05). Called
        lambda_rel in the paper. Positive.
      max_norm: Largest global norm of all gradients during the warm-up (default 1.0). Called lambda_abs in the paper.
        Positive.
      decay: Decay rate of the average norm (default 0.98); a value closer to 1 averages over more steps. In [0, 1).
      warmup_steps: Number, counted from 1, of the first step at which each tensor is clipped by its average norm
        (default 100). Earlier steps are clipped by the global norm. At least 2.

    Returns:
      A transformation. State: one number per tensor (4 bytes in float32).

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.clip_by_past_norm(ratio=2.0, max_norm=10.0, warmup_steps=2)
      >>> state = tx.init(jnp.zeros(2))
      >>> for g in ([3.0, 4.0], [30.0, 40.0]):
      ...     updates, state = tx.update(jnp.array(g), state)
      ...     print(updates.astype("float16"))
      [3. 4.]
      [6. 8.]
    """

    ratio: Hyper = hyper(default=1.05, gt=0)
    max_norm: Hyper = hyper(default=1.0, gt=0)
    decay: Hyper = hyper(default=0.98, ge=0, lt=1)
    warmup_steps: int = integer(default=100, ge=2)

    def measure(self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array) -> tuple[Any, Any]:
        first, second = tree.shrinking(updates, self.max_norm)
        return Shared(warming=t < self.warmup_steps, first=first, second=second), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        old = slots.norm
        bound = jnp.where(old > 0, leaf.saturated(old * self.ratio), jnp.finfo(old.dtype).max)
        first, second = tree.shrinking(g, bound.astype(g.real.dtype))
        first = jnp.where(shared.warming, shared.first.astype(first.dtype), first)
        second = jnp.where(shared.warming, shared.second.astype(second.dtype), second)
        u = g * first * second
        size = leaf.saturated(tree.norm(u))
        least = jnp.where((old > 0) & (old < size), old, size)
        new = jnp.where(shared.warming | (old == 0), least, leaf.moment(old, size, self.decay))
        return u, slots._replace(norm=jnp.where(size > 0, new, old))
