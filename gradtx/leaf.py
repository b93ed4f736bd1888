"""Arithmetic on one array: widening, squares, roots and powers that are correct for extreme values, too.

Rules are written for one tensor at a time. They call these functions instead of those of `jax.numpy` that overflow,
lose digits, or have an infinite derivative at zero.
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
    "finite_or_zeros",
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
    """Whether `x` is a concrete real number of Python or NumPy (not a boolean, not an array).

    Args:
      x: Any object.
    """
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, (int, float, np.floating, np.integer))


@functools.cache
def accumulator_dtype(dtype: DTypeLike) -> np.dtype:
    """Returns the dtype in which to compute and to accumulate: `dtype` itself, or float32 if it is narrower."""
    return jnp.promote_types(dtype, jnp.float32)


@functools.cache
def compute_dtype(dtype: DTypeLike) -> np.dtype:
    """Returns the real dtype, float32 or wider, for numbers that are combined with an array of this dtype."""
    return accumulator_dtype(jnp.finfo(dtype).dtype)


def widen(x: Any, dtype: DTypeLike = np.float32) -> Any:
    """Casts an array to `dtype` or wider; returns None, and arrays that are not floating point, unchanged.

    Args:
      x: An array or None.
      dtype: The least dtype, float32 by default.
    """
    if x is None or x.dtype == dtype or not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    return x.astype(jnp.promote_types(x.dtype, dtype))


def narrow(x: Array, dtype: DTypeLike) -> Array:
    """Casts an array to a dtype; a finite number beyond the dtype's range becomes its largest number instead of
    infinity.

    Infinities and NaN are kept, so that they stay visible.

    Args:
      x: The array.
      dtype: The dtype of the result.
    """
    if x.dtype == dtype:
        return lax.convert_element_type(x, dtype) if getattr(x, "weak_type", False) else x
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating):
        limit = float(jnp.finfo(dtype).max)
        if limit < float(jnp.finfo(x.dtype).max):
            x = jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x)
    return lax.convert_element_type(x, dtype)


def full(p: Any, value: ArrayLike = 0.0, dtype: DTypeLike | None = None, *, real: bool = False) -> Array:
    """Makes an accumulator with the shape and placement of a parameter.

    Args:
      p: The parameter.
      value: The value of all entries. 0 by default.
      dtype: The dtype. None (default) for the parameter's, at least float32.
      real: Whether a complex parameter gets a real accumulator, as for a second moment. False by default.
    """
    if dtype is None:
        dtype = accumulator_dtype(jnp.result_type(p))
    if real:
        dtype = jnp.finfo(dtype).dtype
    return jnp.full_like(p, value, dtype=dtype)


def copy(p: Any) -> Array:
    """Copies a parameter to a new buffer, in float32 or wider, so that state and parameters can both be donated.

    Args:
      p: The parameter.
    """
    return jnp.array(p, dtype=accumulator_dtype(jnp.result_type(p)), copy=True)


def clip(x: Array, bound: float | Array) -> Array:
    """Clips every entry to a modulus of at most `bound`; complex entries keep their angles.

    Args:
      x: The array.
      bound: The largest modulus, a number or an array. Not negative.
    """
    if jnp.iscomplexobj(x):
        size = jnp.abs(jnp.where(x == 0, 1, x))
        return jnp.where(jnp.abs(x) <= bound, x, x / size * bound)
    return jnp.clip(x, -bound, bound)


def apart(x: Array, *numbers: ArrayLike) -> tuple[Array, ...]:
    """Returns numbers as arrays that the compiler does not identify with the same numbers beside other arrays.

    To XLA, a number that is combined with an array is an array of that shape. If it is shared with another loop, or
    with the sum of another leaf, XLA's CPU backend keeps that array in memory.

    Args:
      x: The array beside which the numbers are used.
      *numbers: The numbers.
    """
    return tuple(lax.optimization_barrier(([jnp.asarray(n) for n in numbers], x))[0])


def bounded(x: Array) -> Array:
    """Clips each entry so that its square is at most a quarter of the dtype's largest number.

    Args:
      x: The array.
    """
    if jnp.iscomplexobj(x):
        return lax.complex(bounded(x.real), bounded(x.imag))
    bound = x.dtype.type(math.sqrt(float(jnp.finfo(x.dtype).max)) / 2)
    return lax.clamp(-bound, x, bound)


def abs_sq(x: Array) -> Array:
    """Computes |x|^2, real and at most a quarter of the dtype's largest number, so that sums of a few squares are
    finite.

    An infinite entry is still visible wherever the gradient itself is used in the update.

    Args:
      x: A real or complex array.
    """
    if jnp.iscomplexobj(x):
        return abs_sq(x.real) + abs_sq(x.imag)
    return at_most(lax.mul(x, x), float(jnp.finfo(x.dtype).max) / 4)


def in_units(x: Array) -> tuple[Array, Array]:
    """Returns `x` divided by a power of two, with its largest finite entry between 1/2 and 1, and the exponent.

    Args:
      x: The array.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(jnp.where(jnp.isfinite(x), x, 0)), initial=0))
    exponent = jnp.frexp(largest)[1]
    return shifted(x, -exponent), exponent


def shifted(x: Array, exponent: Array) -> Array:
    """Multiplies by 2^exponent, in two factors, because the power itself may be out of range.

    Args:
      x: The array.
      exponent: The exponent, an integer array.
    """
    half = exponent // 2
    return jnp.ldexp(jnp.ldexp(x, half), exponent - half)


def saturated(x: Array) -> Array:
    """Replaces infinity by the dtype's largest number, in an array that is not negative.

    Args:
      x: The array.
    """
    return jnp.minimum(x, jnp.finfo(x.dtype).max)


def finite_sum(a: Array, b: Array) -> Array:
    """Adds two arrays that are not negative; the sum saturates at the dtype's largest number.

    Args:
      a: The first array.
      b: The second array.
    """
    return at_most(a + b, float(jnp.finfo(jnp.result_type(a, b)).max))


def finite_or_zeros(x: Array) -> tuple[Array, Array]:
    """Returns the array with each entry `bounded`, or zeros if an entry is not finite; and whether one is not.

    Args:
      x: The array.
    """
    failed = ~jnp.all(jnp.isfinite(x))
    return jnp.where(failed, 0, bounded(x)), failed


def at_most(x: Array, bound: float | Array) -> Array:
    """Returns the smaller of `x` and a bound, for values that are kept in a state; NaN stays NaN.

    XLA's CPU backend repeats the last operation of an array in each loop that reads the array, with all that leads
    to it, if that operation has a single array as its input. `jnp.minimum` has one, a selection has two. So a
    moment that is kept and used is computed once, and its old value need not be copied.

    Args:
      x: The array.
      bound: The largest result, a number or an array.
    """
    return jnp.where(x > bound, bound, x)


def at_least(x: Array, bound: float | Array) -> Array:
    """Returns the larger of `x` and a bound, for values that are kept in a state; see `at_most`.

    Args:
      x: The array.
      bound: The smallest result, a number or an array.
    """
    return jnp.where(x < bound, bound, x)


def sign(x: Array) -> Array:
    """Returns the sign of every entry: z / |z| for complex entries and 0 for 0. Its derivative is 0.

    It uses comparisons, which every backend vectorizes.

    Args:
      x: A real or complex array.
    """
    if jnp.iscomplexobj(x):
        return jnp.sign(x)
    x = lax.stop_gradient(x)
    return jnp.where(x > 0, 1, jnp.where(x < 0, -1, x))


def decayed(g: Array, p: Array, weight_decay: float | Array) -> Array:
    """Adds L2 regularization to a gradient, g + weight_decay * p; returns `g` itself if the strength is the number 0.

    Args:
      g: The gradient.
      p: The parameter.
      weight_decay: Strength of the regularization, a number or an array.
    """
    return g if is_number(weight_decay) and weight_decay == 0 else g + p * weight_decay


def moment(old: Array, new: Array, decay: float | Array) -> Array:
    """Updates an exponential moving average: decay * old + (1 - decay) * new.

    Args:
      old: The average so far.
      new: The new value.
      decay: Decay rate of the average; closer to 1 averages over more steps. In [0, 1].
    """
    if is_number(decay) and old.dtype == new.dtype:
        # The same without dtype promotion, which takes most of the time of tracing these operators.
        number = old.dtype.type
        return lax.add(lax.mul(old, number(decay)), lax.mul(new, number(1 - decay)))
    return decay * old + (1 - decay) * new


def root(x: Array, shift: float | Array = 0) -> Array:
    """Computes sqrt(x + shift) for x, shift >= 0; the result is never below the root of the smallest normal number.

    So it is a safe divisor, and its derivative at 0 is finite: such a root always divides a quantity that vanishes
    with it. The smallest normal number is added, which only changes numbers that are nearly as small. (A maximum
    would be as good, but takes several instructions on a CPU, because it must let NaN through.)

    Args:
      x: The array, not negative.
      shift: Added under the root. Not negative; 0 by default.
    """
    return lax.sqrt(x + (shift + float(jnp.finfo(x.dtype).tiny)))


def ratio(a: ArrayLike, b: Array) -> Array:
    """Computes a / b for b >= 0, and 0 where b is zero or too small to divide by.

    Args:
      a: The numerator, a number or an array.
      b: The denominator, an array that is not negative.
    """
    some = b >= jnp.finfo(b.dtype).tiny
    return jnp.where(some, a / jnp.where(some, b, 1), 0)


@jax.custom_jvp
def quotient(a: Array, b: Array) -> Array:
    """Computes a / b, with a derivative that never squares b, whose square may underflow."""
    return a / b


@quotient.defjvp
def _quotient_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    q = quotient(a, b)
    return q, da / b - q * (db / b)


def one_minus_power(base: float | Array, t: ArrayLike) -> Array:
    """Computes 1 - base^t to full relative accuracy, also for a base near 1.

    This is the bias correction of a moment with decay rate `base` after `t` steps.

    Args:
      base: The base, a number or an array. In [0, 1].
      t: The exponent, at least 1.
    """
    t = jnp.asarray(t, jnp.result_type(float))
    if is_number(base):
        # The logarithm is computed in double precision for all dtypes of the arrays.
        log = math.log(base) if base > 0 else -math.inf
        return -lax.expm1(t * log)
    base = jnp.asarray(base)
    return _one_minus_power(base, t.astype(jnp.promote_types(t.dtype, base.dtype)))


@jax.custom_jvp
def _one_minus_power(base: Array, t: Array) -> Array:
    return -jnp.expm1(t * jnp.log(base))


@_one_minus_power.defjvp
def _one_minus_power_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (base, t), (d_base, _) = primals, tangents  # t counts steps, so it needs no derivative
    return _one_minus_power(base, t), -t * base ** (t - 1) * d_base


def debiased_ratio(mu: Array, g: Array, divisor: Array, corrections: tuple[Any, ...]) -> Array:
    """Divides the debiased first moment by `divisor`; divides first, so that no sum overflows.

    Args:
      mu: The first moment, an array.
      g: The gradient; only used for Nesterov momentum.
      divisor: The divisor, an array.
      corrections: The result of a rule's `debias`: one number, or two for Nesterov momentum.
    """
    if len(corrections) == 1:
        return mu / (divisor * corrections[0])
    ahead, now = corrections
    scale = 1 / divisor
    return mu * scale * ahead + g * scale * now


def sum_sq(x: Array) -> Array:
    """Sums |x|^2 of an array in float32 or wider. It may overflow, unlike `gradtx.tree.norm`.

    Args:
      x: A real or complex array.
    """
    if jnp.iscomplexobj(x):
        return lax.add(sum_sq(x.real), sum_sq(x.imag))
    # Not `lax.square`: the factor 2 in its derivative would make the largest numbers infinite.
    return lax.reduce_sum(lax.mul(x, x), axes=tuple(range(x.ndim)))
