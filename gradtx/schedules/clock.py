"""Subtracts and divides step counts exactly, up to the largest int32 step.

float32 represents integers exactly only up to 2^24, and JAX converts int32 to float32 before a division. So this module
first subtracts the step counts, as integers or as two exact halves, and only then divides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.hyper import Limits

__all__ = [
    "apart",
    "as_count",
    "as_number",
    "as_steps",
    "check_steps",
    "fraction_left",
    "is_whole",
    "power",
    "share",
    "since",
]

_HALF = 4096.0  # splits an int32 into two parts that float32 represents exactly


def is_whole(x: Any) -> TypeGuard[float]:
    """Returns whether `x` is a concrete whole number (of any number type) that int32 can represent."""
    return leaf.is_number(x) and float(x).is_integer() and abs(x) <= jnp.iinfo(jnp.int32).max


def as_count(count: Any) -> Array:
    """Converts the count to an array that is not weakly typed.

    A Python integer that is too large for JAX's integers becomes a float.
    """
    dtype = jnp.result_type(count)
    if isinstance(count, int) and not isinstance(count, bool) and abs(count) > jnp.iinfo(dtype).max:
        dtype = jnp.result_type(float)
    return jnp.asarray(count, dtype)


def since(count: Any, *begins: Any) -> Array:
    """Returns `count` minus the sum of `begins`.

    The result is an integer if all arguments are integers. Otherwise the result is in float32 or wider, and exact
    whenever that dtype can represent the difference. `begins` may be arrays or tracers, and the result can be
    differentiated with respect to `begins`.
    """
    count = as_count(count)
    if jnp.issubdtype(count.dtype, jnp.integer):
        count = count.astype(jnp.promote_types(count.dtype, jnp.int32))
        whole = sum(int(begin) for begin in begins if is_whole(begin))
        if is_whole(whole):
            count = count - whole
            begins = tuple(begin for begin in begins if not is_whole(begin))
            if not begins:
                return count
    high, low = apart(count, *begins)
    return high + low


def apart(count: Any, *begins: Any) -> tuple[Array, Array]:
    """Returns `count - sum(begins)` as a multiple of 4096 and a remainder in [0, 4096), in float32 or wider."""
    high, low = _halves(as_count(count))
    for begin in begins:
        begin_high, begin_low = _halves(begin)
        high, low = high - begin_high, low - begin_low
    carry = jnp.floor(low / _HALF) * _HALF
    return high + carry, low - carry


def fraction_left(count: Any, *lengths: Any) -> Array:
    """Returns the fraction of the last phase that is left at step `count`.

    `lengths` are the lengths of phases that follow one another from step 0. The result is 1 before the last phase,
    falls linearly during the last phase, and is 0 after the last phase.
    """
    # The fraction is computed from the distance to the end, not from the beginning, so that small fractions are exact.
    return share(-since(count, *lengths), lengths[-1])


def share(steps: Array, length: Any) -> Array:
    """Returns `steps / length`, clipped to [0, 1]; a length of 0 is replaced by 1 to avoid a division by zero."""
    length = jnp.where(jnp.asarray(length) > 0, length, 1)
    return jnp.clip(steps.astype(jnp.promote_types(steps.dtype, jnp.result_type(float))) / length, 0, 1)


def power(base: ArrayLike, parts: tuple[Array, Array], steps: ArrayLike = 1) -> Array:
    """Returns `base ** (n / steps)`; `parts` are the two summands of n that `apart` returns."""
    base = jnp.asarray(base, jnp.result_type(float))
    return base ** (parts[0] / steps) * base ** (parts[1] / steps)


def as_steps(value: Any) -> Any:
    """Converts an array of steps to a list, with Python numbers for a NumPy array; returns anything else unchanged."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist()
    return list(value) if isinstance(value, jax.Array) and value.ndim else value


def as_number(x: Any) -> Any:
    """Converts a NumPy array of shape () to a Python number; returns anything else unchanged."""
    return x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x


def check_steps(who: str, name: str, value: Any) -> tuple[Any, ...]:
    """Checks a field that holds a list of positive steps, whose concrete entries must strictly increase."""
    value = as_steps(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a list of steps, got {checks.shown(value)}.")
    steps = tuple(
        Limits(gt=0).check(who, f"{name}[{i}]", step, schedules=False) for i, step in enumerate(map(as_number, value))
    )
    known = [step for step in steps if leaf.is_number(step)]
    if known != sorted(set(known)):
        raise ValueError(
            f"{who}: {name} must increase strictly, got {list(steps)}. Sort them, and name each only once."
        )
    return steps


def _halves(x: Any) -> tuple[Any, Any]:
    """Splits x into a multiple of 4096 and a remainder, in float32 or wider; both are exact for 32-bit integers."""
    if leaf.is_number(x):
        high = x // _HALF * _HALF
        return high, x - high
    if jnp.issubdtype(x.dtype, jnp.integer):
        dtype = jnp.result_type(float)
        low = x % jnp.asarray(int(_HALF), jnp.promote_types(x.dtype, jnp.int16))
        return (x - low).astype(dtype), low.astype(dtype)
    x = leaf.widen(x)
    high = jnp.floor(x / _HALF) * _HALF
    return high, x - high
