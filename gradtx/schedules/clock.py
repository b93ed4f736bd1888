"""Differences of step counts, exact up to the largest int32 step.

float32 holds integers up to 2^24 only, and JAX divides int32 by a number in float32. So steps are
subtracted first, as integers or in two exact halves, and divided after.
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

_HALF = 4096.0  # splits an int32 into two parts that float32 holds exactly


def is_whole(x: Any) -> TypeGuard[float]:
    """Whether `x` is a concrete number that int32 holds."""
    return leaf.is_number(x) and float(x).is_integer() and abs(x) <= jnp.iinfo(jnp.int32).max


def as_count(count: Any) -> Array:
    """The count as an array that is not weakly typed; a Python integer that JAX's do not hold as a float."""
    dtype = jnp.result_type(count)
    if isinstance(count, int) and not isinstance(count, bool) and abs(count) > jnp.iinfo(dtype).max:
        dtype = jnp.result_type(float)
    return jnp.asarray(count, dtype)


def since(count: Any, *begins: Any) -> Array:
    """Count minus the sum of `begins`: an integer if all are, else in float32 or wider, exact where the answer is.

    `begins` may be arrays or tracers, and the result can be differentiated by them.
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
    """Count minus the sum of `begins` as a multiple of 4096 and a rest in [0, 4096), in float32 or wider."""
    high, low = _halves(as_count(count))
    for begin in begins:
        begin_high, begin_low = _halves(begin)
        high, low = high - begin_high, low - begin_low
    carry = jnp.floor(low / _HALF) * _HALF
    return high + carry, low - carry


def fraction_left(count: Any, *lengths: Any) -> Array:
    """1 until the last of `lengths` begins, 0 from its end on, linear between; the others come before it."""
    # The distance to the end, not to the beginning, so that the fraction is exact where it is small.
    return share(-since(count, *lengths), lengths[-1])


def share(steps: Array, length: Any) -> Array:
    """`steps` as a part of `length`, between 0 and 1; a length of 0 counts as 1, so that nothing is divided by it."""
    length = jnp.where(jnp.asarray(length) > 0, length, 1)
    return jnp.clip(steps.astype(jnp.promote_types(steps.dtype, jnp.result_type(float))) / length, 0, 1)


def power(base: ArrayLike, parts: tuple[Array, Array], steps: ArrayLike = 1) -> Array:
    """`base` to the number of steps over `steps`, where the number is given by its two parts, as by `apart`."""
    base = jnp.asarray(base, jnp.result_type(float))
    return base ** (parts[0] / steps) * base ** (parts[1] / steps)


def as_steps(value: Any) -> Any:
    """An array of steps as a list of its entries, which are Python numbers if it is NumPy's; all else unchanged."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist()
    return list(value) if isinstance(value, jax.Array) and value.ndim else value


def as_number(x: Any) -> Any:
    """A NumPy array of shape () as a Python number; all else unchanged."""
    return x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x


def check_steps(who: str, name: str, value: Any) -> tuple[Any, ...]:
    """The check of a field that holds a list of positive steps, those that are known strictly increasing."""
    value = as_steps(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a list of steps, got {checks.shown(value)}.")
    steps = tuple(
        Limits(gt=0).check(who, f"{name}[{i}]", step, schedules=False) for i, step in enumerate(map(as_number, value))
    )
    known = [step for step in steps if leaf.is_number(step)]
    if known != sorted(set(known)):
        raise ValueError(f"{who}: {name} must increase strictly, got {list(steps)}. Sort them, and name none twice.")
    return steps


def _halves(x: Any) -> tuple[Any, Any]:
    """X as a multiple of 4096 and a rest, in float32 or wider, each exact for integers of 32 bits."""
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
