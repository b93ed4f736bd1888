"""Replaces NaN entries of the updates by zero, and records which leaves contained NaN."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, reduced
from gradtx.types import Slots

__all__ = ["ZeroNansState", "zero_nans"]


class ZeroNansState(NamedTuple):
    """The state of `zero_nans`: the number of steps, and for each leaf whether the last update contained a NaN."""

    found_nan: Array = reduced(start=False, dtype=bool)
    count: Array = counter()


class zero_nans(Elementwise, state=ZeroNansState):
    """Replaces NaN entries of the updates by zero; infinities are unchanged.

    Use it only if you expect single NaN entries, because it hides errors: check `state.found_nan`, which records for
    each leaf whether the last update contained a NaN. To skip the whole step instead, use `apply_if_finite`.

    Returns:
      A transformation. State: one boolean per leaf, and a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.zero_nans()
      >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
      >>> print(updates, state.found_nan)
      [1. 0.] True
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        bad = jnp.isnan(g)
        return jnp.where(bad, 0, g), slots._replace(found_nan=jnp.any(bad))
