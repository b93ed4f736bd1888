"""Arithmetic on one array: widening, squares, roots and powers that are right in every corner.

Rules are written for one tensor at a time and call these instead of their `jax.numpy`
namesakes where the namesake overflows, loses digits or has an infinite derivative at zero.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

__all__ = [
    "abs_sq",
    "accumulator_dtype",
    "divide",
    "finite_sum",
    "full",
    "is_number",
    "mean_sq",
    "moment",
    "narrow",
    "one_minus_power",
    "rsqrt",
    "sqrt",
    "sum_sq",
    "widen",
]


def is_number(x: Any) -> bool:
    """Whether `x` is a concrete Python or NumPy real number (not a bool, not an array)."""
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, (int, float, np.floating, np.integer))


def accumulator_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype in which to compute and to accumulate: `dtype` itself, or float32 if it is narrower."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: Any) -> Any:
    """`x` in float32 or wider; arrays that are not floating point pass unchanged."""
    if x is None or not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(accumulator_dtype(x.dtype))


def narrow(x: Array, dtype: DTypeLike) -> Array:
    """`x` as `dtype`. A finite value beyond the dtype's range becomes its largest, not infinity.

    Infinities and NaN pass as they are, so that they stay visible.
    """
    if x.dtype == dtype:
        return jax.lax.convert_element_type(x, dtype)  # drops a weak type
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating):
        limit = float(jnp.finfo(dtype).max)
        if limit < float(jnp.finfo(x.dtype).max):
            x = jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x)
    return jax.lax.convert_element_type(x, dtype)


def full(p: Any, value: ArrayLike = 0.0, dtype: DTypeLike | None = None, *, real: bool = False) -> Array:
    """An accumulator shaped and placed like `p`, in float32 or wider unless `dtype` says otherwise.

    `real=True` gives a complex parameter a real accumulator (a second moment is real).
    """
    if dtype is None:
        dtype = accumulator_dtype(jnp.result_type(p))
    if real:
        dtype = jnp.finfo(dtype).dtype
    return jnp.full_like(p, value, dtype=dtype)


def abs_sq(x: Array) -> Array:
    """|x|^2, real, saturating below the dtype's largest number instead of overflowing.

    The bound is a quarter of the largest finite number, so that sums of a few squares stay finite.
    An infinite entry is still seen wherever the gradient itself enters the update.
    """
    if jnp.iscomplexobj(x):
        return abs_sq(x.real) + abs_sq(x.imag)
    bound = math.sqrt(float(jnp.finfo(x.dtype).max)) / 2
    return jnp.square(jnp.clip(x, -bound, bound))


def finite_sum(a: Array, b: Array) -> Array:
    """a + b for non-negative arrays, saturating at the dtype's largest number."""
    return jnp.minimum(a + b, jnp.finfo(jnp.result_type(a, b)).max)


def moment(old: Array, new: Array, decay: ArrayLike) -> Array:
    """One step of an exponential moving average: decay * old + (1 - decay) * new."""
    return decay * old + (1 - decay) * new


@jax.custom_jvp
def sqrt(x: Array) -> Array:
    """The square root, with derivative 0 instead of infinity at 0.

    Every root here is of a square that vanishes with its gradient, or is divided into a
    quantity that does: there the one-sided derivatives meet in 0 or drop out.
    """
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    root = sqrt(x)
    positive = root > 0
    return root, jnp.where(positive, 0.5 / jnp.where(positive, root, 1), 0) * dx


def rsqrt(x: Array) -> Array:
    """1 / sqrt(x) for x >= 0, finite at 0, and so is its derivative."""
    return 1 / jnp.sqrt(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def divide(a: Array, b: Array) -> Array:
    """a / b for b >= 0, with 0 / 0 = 0. A denominator below the root of the smallest normal number is taken as that."""
    return a / jnp.maximum(b, math.sqrt(float(jnp.finfo(b.dtype).tiny)))


def one_minus_power(base: ArrayLike, t: ArrayLike) -> Array:
    """1 - base^t for 0 <= base <= 1 and t >= 1, to full relative accuracy (base near 1 cancels nothing).

    The bias correction of a moment with decay `base` after `t` steps.
    """
    dtype = jnp.promote_types(jnp.result_type(float), jnp.result_type(base))
    if is_number(base):
        # The logarithm is taken in double precision, whatever dtype the arrays have.
        log = math.log(base) if base > 0 else -math.inf
        return -jnp.expm1(jnp.asarray(t, dtype) * log)
    return _one_minus_power(jnp.asarray(base, dtype), jnp.asarray(t, dtype))


@jax.custom_jvp
def _one_minus_power(base: Array, t: Array) -> Array:
    return -jnp.expm1(t * jnp.log(base))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (base, t), (d_base, _) = primals, tangents  # t counts steps: nobody differentiates by it
    return _one_minus_power(base, t), -t * base ** (t - 1) * d_base


def sum_sq(x: Array) -> Array:
    """The plain sum of |x|^2 in float32 or wider; it may overflow (`gradtx.tree.norm` does not)."""
    x = widen(x)
    if jnp.iscomplexobj(x):
        return jnp.sum(jnp.square(x.real) + jnp.square(x.imag))
    return jnp.sum(jnp.square(x))


def mean_sq(x: Array) -> Array:
    """The mean of |x|^2, 0 for an array with no entries."""
    return sum_sq(x) / max(x.size, 1)
