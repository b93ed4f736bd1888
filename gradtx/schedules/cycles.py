"""Finds the cycle to which a step belongs, and the position of the step in the cycle, exactly for all int32 steps.

The length of cycle i is T_i, where T_0 = period and T_(i+1) = (T_i - fixed) * multiplier + fixed. So cycle i begins at
step

    S_i = (period - fixed) * (multiplier^i - 1) / (multiplier - 1) + fixed * i

A logarithm could round to the wrong cycle, so the index is computed by an integer division if all cycles have the same
length, and by a loop over the cycles if they grow. Both use integer arithmetic if all arguments are integers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf
from gradtx.schedules.clock import apart, as_count, is_whole, since

__all__ = ["Cycle", "cycle"]


class Cycle(NamedTuple):
    """The cycle to which a step belongs, and the position of the step in the cycle."""

    index: Array  # an integer, 0 for the first cycle
    position: Array  # number of steps since the beginning of the cycle
    left: Array  # number of steps until the end of the cycle
    length: Array

    @property
    def parts(self) -> tuple[Array, Array]:
        """Returns the index in two parts, the form in which `clock.power` takes it."""
        return apart(self.index)


def cycle(count: Any, period: Any, multiplier: Any = 1, fixed: Any = 0, begins: tuple[Any, ...] = ()) -> Cycle:
    """Returns the cycle to which step `count` belongs.

    The first cycle begins at step `sum(begins)`; earlier steps are treated like the first step of the first cycle. The
    result can be differentiated with respect to all arguments that are numbers, except at steps where the index
    changes. If the cycles grow, each call loops over the cycles that have passed.
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
    """Returns the cycle to which step `count` belongs, in the common dtype of the four arguments."""
    count, period, multiplier, fixed = jnp.broadcast_arrays(count, period, multiplier, fixed)
    index, rest = jnp.divmod(count, period)
    length = period
    if grows:
        equal = multiplier <= 1
        length = jnp.where(equal, period, jnp.maximum(period, 1))  # with a length below 1 the loop might never end
        start = (jnp.where(equal, index, 0), jnp.where(equal, rest, count), length, multiplier, fixed)
        index, rest, length, *_ = lax.while_loop(_some_end, _pass, start)
    dtype = jnp.result_type(float)
    real, left = length.astype(dtype), (length - rest).astype(dtype)
    if grows and jnp.issubdtype(count.dtype, jnp.integer):
        # `_pass` sets a length that overflows to the largest integer. Here that value marks lengths to recompute as
        # floats.
        true = _length(index.astype(dtype), period.astype(dtype), multiplier.astype(dtype), fixed.astype(dtype))
        over = length == jnp.iinfo(length.dtype).max
        real, left = jnp.where(over, true, real), jnp.where(over, true - rest.astype(dtype), left)
    return Cycle(index.astype(jnp.result_type(int)), rest.astype(dtype), left, real)


def _some_end(carry: tuple[Array, ...]) -> Array:
    _, rest, length, *_ = carry
    return jnp.any(rest >= length)


def _pass(carry: tuple[Array, ...]) -> tuple[Array, ...]:
    """Moves every count that lies beyond the end of its cycle into the next cycle."""
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
    some, turns = (
        jnp.where(equal, 1, growth),
        jnp.where(equal, 0, index),
    )  # the branch that `where` does not select must also be finite, or derivatives become NaN
    geometric = jnp.where(
        equal, index + index * (index - 1) / 2 * growth, jnp.expm1(turns * jnp.log1p(some)) / some
    )  # near multiplier 1 the first branch has the same value and derivative
    return (period - fixed) * geometric + fixed * index


def _differentiable(found: Cycle, period: Any, multiplier: Any, fixed: Any, *begins: Any) -> Cycle:
    """Returns the same values, with the derivatives of the closed formula for S_i and T_i."""
    index = found.index.astype(found.length.dtype)
    start = _start(index, period, multiplier, fixed) + sum(begins)
    length = _length(index, period, multiplier, fixed)
    d_start, d_length = start - lax.stop_gradient(start), length - lax.stop_gradient(length)
    return Cycle(found.index, found.position - d_start, found.left + d_start + d_length, found.length + d_length)
