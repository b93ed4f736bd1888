"""Arithmetic on one array: widening, squares, roots and powers that are right in every corner.

Rules are written for one tensor at a time and call these instead of their `jax.numpy`
namesakes where the namesake overflows, loses digits or has an infinite derivative at zero.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

__all__ = [
    "abs_sq",
    "apart",
    "accumulator_dtype",
    "at_least",
    "at_most",
    "bounded",
    "clip",
    "compute_dtype",
    "copy",
    "debiased_ratio",
    "decayed",
    "finite_sum",
    "full",
    "in_units",
    "is_number",
    "moment",
    "narrow",
    "one_minus_power",
    "quotient",
    "ratio",
    "root",
    "saturated",
    "shifted",
    "sign",
    "sum_sq",
    "widen",
]


def is_number(x: Any) -> TypeGuard[float]:
    """Whether `x` is a concrete Python or NumPy real number (not a bool, not an array)."""
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, (int, float, np.floating, np.integer))


@functools.cache
def accumulator_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype in which to compute and to accumulate: `dtype` itself, or float32 if it is narrower."""
    return jnp.promote_types(dtype, jnp.float32)


@functools.cache
def compute_dtype(dtype: DTypeLike) -> np.dtype:
    """The real dtype, float32 or wider, of what meets an array of this dtype."""
    return accumulator_dtype(jnp.finfo(dtype).dtype)


def widen(x: Any, dtype: DTypeLike = np.float32) -> Any:
    """`x` in `dtype` (float32 by default) or wider; None, and arrays that are not floating point, unchanged."""
    if x is None or x.dtype == dtype or not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.promote_types(x.dtype, dtype))


def narrow(x: Array, dtype: DTypeLike) -> Array:
    """`x` as `dtype`. A finite value beyond the dtype's range becomes its largest, not infinity.

    Infinities and NaN pass as they are, so that they stay visible.
    """
    if x.dtype == dtype:
        return lax.convert_element_type(x, dtype) if getattr(x, "weak_type", False) else x
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating):
        limit = float(jnp.finfo(dtype).max)
        if limit < float(jnp.finfo(x.dtype).max):
            x = jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x)
    return lax.convert_element_type(x, dtype)


def full(p: Any, value: ArrayLike = 0.0, dtype: DTypeLike | None = None, *, real: bool = False) -> Array:
    """An accumulator shaped and placed like `p`, in float32 or wider unless `dtype` says otherwise.

    `real=True` gives a complex parameter a real accumulator (a second moment is real).
    """
    if dtype is None:
        dtype = accumulator_dtype(jnp.result_type(p))
    if real:
        dtype = jnp.finfo(dtype).dtype
    return jnp.full_like(p, value, dtype=dtype)


def copy(p: Any) -> Array:
    """`p` in a buffer of its own, in float32 or wider: a state may be donated together with the parameters."""
    return jnp.array(p, dtype=accumulator_dtype(jnp.result_type(p)), copy=True)


def clip(x: Array, bound: float | Array) -> Array:
    """`x` with every modulus at most `bound`; a complex entry keeps its angle."""
    if jnp.iscomplexobj(x):
        size = jnp.abs(jnp.where(x == 0, 1, x))
        return jnp.where(jnp.abs(x) <= bound, x, x / size * bound)
    return jnp.clip(x, -bound, bound)


def apart(x: Array, *numbers: ArrayLike) -> tuple[Array, ...]:
    """Numbers as arrays that the compiler takes for others than the same numbers beside other arrays than `x`.

    A number that meets an array is an array of that shape to XLA. If a sum shares it with another loop, or with the sum
    of another leaf, XLA's CPU backend keeps it in memory.
    """
    return tuple(lax.optimization_barrier(([jnp.asarray(n) for n in numbers], x))[0])


def bounded(x: Array) -> Array:
    """`x`, each entry clipped so that its square is at most a quarter of the dtype's largest number."""
    if jnp.iscomplexobj(x):
        return lax.complex(bounded(x.real), bounded(x.imag))
    bound = x.dtype.type(math.sqrt(float(jnp.finfo(x.dtype).max)) / 2)
    return lax.clamp(-bound, x, bound)


def abs_sq(x: Array) -> Array:
    """|x|^2, real, at most a quarter of the dtype's largest number: sums of a few squares stay finite.

    An infinite entry is still seen wherever the gradient itself enters the update.
    """
    if jnp.iscomplexobj(x):
        return abs_sq(x.real) + abs_sq(x.imag)
    return at_most(lax.mul(x, x), float(jnp.finfo(x.dtype).max) / 4)


def in_units(x: Array) -> tuple[Array, Array]:
    """`x` over a power of two, with its largest finite entry between 1/2 and 1, and the exponent of that power."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(jnp.where(jnp.isfinite(x), x, 0)), initial=0))
    exponent = jnp.frexp(largest)[1]
    return shifted(x, -exponent), exponent


def shifted(x: Array, exponent: Array) -> Array:
    """The product of `x` and 2^exponent, in two factors, because the power itself may be out of range."""
    half = exponent // 2
    return jnp.ldexp(jnp.ldexp(x, half), exponent - half)


def saturated(x: Array) -> Array:
    """A non-negative array with the dtype's largest number in place of infinity."""
    return jnp.minimum(x, jnp.finfo(x.dtype).max)


def finite_sum(a: Array, b: Array) -> Array:
    """The sum of two non-negative arrays, saturating at the dtype's largest number."""
    return at_most(a + b, float(jnp.finfo(jnp.result_type(a, b)).max))


def at_most(x: Array, bound: float | Array) -> Array:
    """The smaller of `x` and a number, for what is kept in a state; NaN stays NaN.

    XLA's CPU backend computes the last operation of an array anew in each loop that reads the array, with all that
    leads to it, if that operation has one array as its input. `jnp.minimum` has one, a selection has two. So a moment
    that is kept and used is computed once, and its old value need not be copied.
    """
    return jnp.where(x > bound, bound, x)


def at_least(x: Array, bound: float | Array) -> Array:
    """The larger of `x` and a number, for what is kept in a state; see `at_most`."""
    return jnp.where(x < bound, bound, x)


def sign(x: Array) -> Array:
    """The sign of every entry, z / |z| for complex ones and 0 for 0; its derivative is 0.

    It is taken by comparisons, which every backend vectorizes.
    """
    if jnp.iscomplexobj(x):
        return jnp.sign(x)
    x = lax.stop_gradient(x)
    return jnp.where(x > 0, 1, jnp.where(x < 0, -1, x))


def decayed(g: Array, p: Array, weight_decay: float | Array) -> Array:
    """The sum g + weight_decay * p; without a decay `g` itself, so that nothing is computed for it."""
    return g if is_number(weight_decay) and weight_decay == 0 else g + p * weight_decay


def moment(old: Array, new: Array, decay: float | Array) -> Array:
    """One step of an exponential moving average: decay * old + (1 - decay) * new."""
    if is_number(decay) and old.dtype == new.dtype:
        # The same without promotion, which is what most of the time of tracing these operators goes to.
        number = old.dtype.type
        return lax.add(lax.mul(old, number(decay)), lax.mul(new, number(1 - decay)))
    return decay * old + (1 - decay) * new


def root(x: Array, shift: float | Array = 0) -> Array:
    """sqrt(x + shift) for x, shift >= 0, never below the root of the smallest normal number.

    So it can be divided by, and its derivative at 0 is finite: each root here is divided into a quantity that vanishes
    with it. The smallest normal number is added; it changes nothing but numbers that are nearly as small. (A maximum
    would be as good, but takes several instructions on a CPU, because it must let NaN through.)
    """
    return lax.sqrt(x + (shift + float(jnp.finfo(x.dtype).tiny)))


def ratio(a: ArrayLike, b: Array) -> Array:
    """The ratio a / b for b >= 0, and 0 where b is zero or too small to divide by."""
    some = b >= jnp.finfo(b.dtype).tiny
    return jnp.where(some, a / jnp.where(some, b, 1), 0)


@jax.custom_jvp
def quotient(a: Array, b: Array) -> Array:
    """The quotient a / b, with a derivative that never takes the square of b, which may be too small to represent."""
    return a / b


@quotient.defjvp
def _quotient_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    q = quotient(a, b)
    return q, da / b - q * (db / b)


def one_minus_power(base: float | Array, t: ArrayLike) -> Array:
    """1 - base^t for 0 <= base <= 1 and t >= 1, to full relative accuracy (base near 1 cancels nothing).

    The bias correction of a moment with decay `base` after `t` steps.
    """
    t = jnp.asarray(t, jnp.result_type(float))
    if is_number(base):
        # The logarithm is taken in double precision, whatever dtype the arrays have.
        log = math.log(base) if base > 0 else -math.inf
        return -lax.expm1(t * log)
    base = jnp.asarray(base)
    return _one_minus_power(base, t.astype(jnp.promote_types(t.dtype, base.dtype)))


@jax.custom_jvp
def _one_minus_power(base: Array, t: Array) -> Array:
    return -jnp.expm1(t * jnp.log(base))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (base, t), (d_base, _) = primals, tangents  # t counts steps: nobody differentiates by it
    return _one_minus_power(base, t), -t * base ** (t - 1) * d_base


def debiased_ratio(mu: Array, g: Array, divisor: Array, corrections: tuple[Any, ...]) -> Array:
    """The debiased first moment over `divisor`; divided first, so that no sum overflows."""
    if len(corrections) == 1:
        return mu / (divisor * corrections[0])
    ahead, now = corrections
    scale = 1 / divisor
    return mu * scale * ahead + g * scale * now


def sum_sq(x: Array) -> Array:
    """The plain sum of |x|^2 of a float32 or wider array; it may overflow (`gradtx.tree.norm` does not)."""
    if jnp.iscomplexobj(x):
        return lax.add(sum_sq(x.real), sum_sq(x.imag))
    # Not `lax.square`: the 2 in its derivative makes the largest numbers infinite.
    return lax.reduce_sum(lax.mul(x, x), axes=tuple(range(x.ndim)))
