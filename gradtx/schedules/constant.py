"""The constant schedule: eta_t = value."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number

__all__ = ["constant_schedule"]


class constant_schedule(Schedule):
    """`value` at every step.

    >>> import gradtx as gx
    >>> float(gx.constant_schedule(0.5)(1000))
    0.5
    """

    value: Number = number()

    def __call__(self, count: ArrayLike) -> Array:
        return jnp.full(jnp.shape(count), self.value, jnp.result_type(float))
