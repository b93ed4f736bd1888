"""Sums the updates and returns the sum every k steps; all other updates are zero."""

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
    """The state of `apply_every`: the number of steps, and the sum of the updates since the sum was last applied."""

    count: Array = counter()
    grad_acc: Array = per_param()


class apply_every(Elementwise, state=ApplyEveryState):
    """Sums the updates and applies the sum every `k` steps; the updates at all other steps are zero.

    Put it last in a chain. The transformations before it receive every gradient, so their moments are updated at every
    step. To give the optimizer one mean gradient per `k` micro-batches instead, use `accumulate`.

    Args:
      k: Number of steps whose updates are summed (default 1, which changes nothing). At least 1.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32). A sum that is too large for its
      dtype overflows.

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
