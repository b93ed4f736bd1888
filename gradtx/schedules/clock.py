"""Differences of step counts, exact up to the largest int32 step.

float32 holds integers up to 2^24 only, and JAX divides int32 by a number in float32. So steps are
subtracted first, as integers or in two exact halves, and divided after.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf

__all__ = ["fraction_left", "since"]

_HALF = 4096.0  # splits an int32 into two parts that float32 holds exactly


def since(count: Any, begin: Any) -> Array:
    """Count - begin: an integer if both are, else in float32 or wider, exact where the answer is.

    `begin` may be an array or a tracer, and the result can be differentiated by it.
    """
    count = jnp.asarray(count, jnp.result_type(count))  # not weakly typed
    whole = leaf.is_number(begin) and float(begin).is_integer() and abs(begin) <= jnp.iinfo(jnp.int32).max
    if whole and jnp.issubdtype(count.dtype, jnp.integer):
        return count - int(begin)
    (a_high, a_low), (b_high, b_low) = _halves(count), _halves(begin)
    return (a_high - b_high) + (a_low - b_low)


def fraction_left(count: Any, begin: Any, steps: Any) -> Array:
    """1 before `begin`, 0 from `begin + steps` on, linear between: max(0, min(1, (begin + steps - count) / steps))."""
    # The distance to the end, not to the beginning, so that the fraction is exact where it is small.
    left = -since(since(count, begin), steps)
    return jnp.clip(left.astype(jnp.promote_types(left.dtype, jnp.result_type(float))) / steps, 0, 1)


def _halves(x: Any) -> tuple[Any, Any]:
    """X as a multiple of 4096 and a rest, in float32 or wider, each exact for integers of 32 bits."""
    if leaf.is_number(x):
        high = x // _HALF * _HALF
        return high, x - high
    if jnp.issubdtype(x.dtype, jnp.integer):
        dtype = jnp.result_type(float)
        low = x % int(_HALF)
        return (x - low).astype(dtype), low.astype(dtype)
    high = jnp.floor(x / _HALF) * _HALF
    return high, x - high
