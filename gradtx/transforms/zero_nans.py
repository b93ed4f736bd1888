"""Entries that are not a number become zero, and the state says in which leaves there were any."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, reduced
from gradtx.types import Slots

__all__ = ["ZeroNansState", "zero_nans"]


class ZeroNansState(NamedTuple):
    """The steps taken, and for each leaf whether the last update had a NaN in it."""

    found_nan: Array = reduced(start=False, dtype=bool)
    count: Array = counter()


class zero_nans(Elementwise, state=ZeroNansState):
    """u = 0 where g is NaN. It hides that something is wrong: look at `found_nan`. Infinities pass.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.zero_nans()
    >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
    >>> print(updates, state.found_nan)
    [1. 0.] True
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        bad = jnp.isnan(g)
        return jnp.where(bad, 0, g), slots._replace(found_nan=jnp.any(bad))
