"""Sums updates and applies their sum every k steps; the updates in between are zero."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import counter, per_param
from gradtx.core.value import integer
from gradtx.types import Slots

__all__ = ["ApplyEveryState", "apply_every"]


class ApplyEveryState(NamedTuple):
    """The number of steps, and the sum of the updates since the last applied one."""

    count: Array = counter()
    grad_acc: Array = per_param()


class apply_every(Elementwise, state=ApplyEveryState):
    """Sums updates and applies their sum every `k` steps; the updates in between are zero.

    Put it last in a chain. The links before it see every gradient, so that moments are updated at every step. To
    accumulate gradients instead, so that the optimizer sees one mean gradient for `k` micro-batches, use `accumulate`.

    Args:
      k: Number of steps between two applied updates (default 1, which changes nothing). At least 1.

    Returns:
      A transformation. State: one array per parameter (4 bytes in float32). A sum too large for the dtype overflows.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.apply_every(2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (1.0, 2.0, 3.0, 4.0):
      ...     updates, state = tx.update(jnp.array([g]), state)
      ...     print(updates)
      [0.]
      [3.]
      [0.]
      [7.]
    """

    k: int = integer(default=1, ge=1)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        place = (t - 1) % self.k
        return Shared(first=place == 0, last=place == self.k - 1), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        total = g + jnp.where(shared.first, 0, slots.grad_acc)
        return jnp.where(shared.last, total, 0), slots._replace(grad_acc=total)
