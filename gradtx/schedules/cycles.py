"""Which cycle a step falls into, and where: exact for whole numbers up to the largest int32 step.

Cycle i is as long as T_i, where T_0 = period and T_(i+1) = (T_i - fixed) * multiplier + fixed, so it begins at

    S_i = (period - fixed) * (multiplier^i - 1) / (multiplier - 1) + fixed * i

No logarithm decides the index: cycles of equal length are counted by a division, growing ones by walking through
them, and both in integers where the numbers are whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf
from gradtx.schedules.clock import apart, as_count, is_whole, since

__all__ = ["Cycle", "cycle"]


class Cycle(NamedTuple):
    """A step's cycle."""

    index: Array  # from 0; an integer
    position: Array  # steps since the cycle began
    left: Array  # steps to its end
    length: Array

    @property
    def parts(self) -> tuple[Array, Array]:
        """The index as `clock.power` takes it."""
        return apart(self.index)


def cycle(count: Any, period: Any, multiplier: Any = 1, fixed: Any = 0, begins: tuple[Any, ...] = ()) -> Cycle:
    """The cycle of `count`; the first one begins after the sum of `begins`, and steps before that count as its first.

    It can be differentiated by all numbers, the index being constant. Growing cycles cost a loop, with as many turns
    as cycles have passed.
    """
    count = as_count(count)
    numbers = (period, multiplier, fixed, *begins)
    known = all(is_whole(x) for x in numbers)
    grows = not (leaf.is_number(multiplier) and multiplier == 1)
    still = [lax.stop_gradient(jnp.asarray(x, jnp.result_type(float))) for x in numbers]
    if not jnp.issubdtype(count.dtype, jnp.integer):
        found = _walk(_elapsed(count, still[3:]), *still[:3], grows=grows)
    else:
        count = count.astype(jnp.promote_types(count.dtype, jnp.result_type(int)))
        exact = jnp.asarray(True)
        for x in still:
            exact = exact & (x == jnp.floor(x)) & (jnp.abs(x) < 2.0**31)
        own = [int(x) if is_whole(x) else lax.stop_gradient(jnp.asarray(x)).astype(count.dtype) for x in numbers]
        elapsed = jnp.maximum(count, 0)
        for begin in own[3:]:
            elapsed = jnp.maximum(elapsed - begin, 0)
        found = _walk(
            elapsed if known else jnp.where(exact, elapsed, 0),
            *(jnp.maximum(jnp.asarray(x, count.dtype), low) for x, low in zip(own[:3], (1, 1, 0), strict=True)),
            grows=grows,
        )
        if not known:
            other = _walk(jnp.where(exact, 0, _elapsed(count, still[3:])), *still[:3], grows=grows)
            found = Cycle(*(jnp.where(exact, a, b.astype(a.dtype)) for a, b in zip(found, other, strict=True)))
    return found if known else _differentiable(found, *numbers)


def _elapsed(count: Array, begins: list[Array]) -> Array:
    return jnp.maximum(since(count, *begins), 0).astype(jnp.result_type(float))


def _walk(count: Array, period: Array, multiplier: Array, fixed: Array, *, grows: bool) -> Cycle:
    """The cycle of `count`, in the dtype that all four have."""
    count, period, multiplier, fixed = jnp.broadcast_arrays(count, period, multiplier, fixed)
    index, rest = jnp.divmod(count, period)
    length = period
    if grows:
        equal = multiplier <= 1
        length = jnp.where(equal, period, jnp.maximum(period, 1))  # shorter ones might never end
        start = (jnp.where(equal, index, 0), jnp.where(equal, rest, count), length, multiplier, fixed)
        index, rest, length, *_ = lax.while_loop(_some_end, _pass, start)
    dtype = jnp.result_type(float)
    real, left = length.astype(dtype), (length - rest).astype(dtype)
    if grows and jnp.issubdtype(count.dtype, jnp.integer):
        # A length that the integers do not hold is the largest of them, as a sign.
        true = _length(index.astype(dtype), period.astype(dtype), multiplier.astype(dtype), fixed.astype(dtype))
        over = length == jnp.iinfo(length.dtype).max
        real, left = jnp.where(over, true, real), jnp.where(over, true - rest.astype(dtype), left)
    return Cycle(index.astype(jnp.result_type(int)), rest.astype(dtype), left, real)


def _some_end(carry: tuple[Array, ...]) -> Array:
    _, rest, length, *_ = carry
    return jnp.any(rest >= length)


def _pass(carry: tuple[Array, ...]) -> tuple[Array, ...]:
    """Each count that is past its cycle's end moves to the next cycle."""
    index, rest, length, multiplier, fixed = carry
    ends = rest >= length
    if jnp.issubdtype(length.dtype, jnp.integer):
        largest = jnp.iinfo(length.dtype).max
        over = length - fixed > (largest - fixed) // multiplier
        longer = jnp.where(over, largest, (jnp.where(over, fixed, length) - fixed) * multiplier + fixed)
    else:
        longer = (length - fixed) * multiplier + fixed
    return (
        jnp.where(ends, index + 1, index),
        jnp.where(ends, rest - length, rest),
        jnp.where(ends, longer, length),
        multiplier,
        fixed,
    )


def _length(index: Array, period: Any, multiplier: Any, fixed: Any) -> Array:
    return (period - fixed) * jnp.asarray(multiplier, index.dtype) ** index + fixed


def _start(index: Array, period: Any, multiplier: Any, fixed: Any) -> Array:
    growth = jnp.asarray(multiplier, index.dtype) - 1
    equal = growth == 0
    some, turns = jnp.where(equal, 1, growth), jnp.where(equal, 0, index)  # unselected, and finite
    geometric = jnp.where(
        equal, index + index * (index - 1) / 2 * growth, jnp.expm1(turns * jnp.log1p(some)) / some
    )  # at multiplier 1 its value and its derivative
    return (period - fixed) * geometric + fixed * index


def _differentiable(found: Cycle, period: Any, multiplier: Any, fixed: Any, *begins: Any) -> Cycle:
    """The same numbers with the derivatives of the closed form."""
    index = found.index.astype(found.length.dtype)
    start = _start(index, period, multiplier, fixed) + sum(begins)
    length = _length(index, period, multiplier, fixed)
    d_start, d_length = start - lax.stop_gradient(start), length - lax.stop_gradient(length)
    return Cycle(found.index, found.position - d_start, found.left + d_start + d_length, found.length + d_length)
