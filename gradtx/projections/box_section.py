"""Projection onto the section of a box by a hyperplane: lower <= p <= upper and <w, p> = c.

    p_i = min(max(x_i - t w_i, lower_i), upper_i)        with the t for which <w, p> = c

<w, p> decreases in t, and is linear between the breakpoints, the values of t at which an entry meets a bound. The
breakpoints are sorted, and bisection finds the two neighbouring breakpoints at which <w, p> is above and below c.
Between these two, t solves a linear equation (Kiwiel, 2008, "Breakpoint searching algorithms for the continuous
quadratic knapsack problem"). The derivative is implicit: entries at a bound move with the bound, and the other entries
move so that <w, p> = c still holds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import mesh
from gradtx.projections.vector import number, vector, vector_like

__all__ = ["projection_box_section"]


def projection_box_section(tree: Any, lower: Any, upper: Any, w: Any = 1, c: ArrayLike = 1) -> Any:
    """Projects onto all vectors p with `lower <= p <= upper` and <w, p> = c.

    Use it, for example, for portfolio weights that sum to 1 with at most 60% in one asset.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      lower: The lower bounds: a number or a tree like `tree`. May be -inf.
      upper: The upper bounds: a number or a tree like `tree`. May be inf.
      w: The coefficients of the sum <w, p>: a number or a tree like `tree`. 1 by default.
      c: The required value of <w, p>, a number. 1 by default.

    Returns:
      A tree like `tree`; NaN if no point satisfies the conditions.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_box_section(jnp.array([2.0, 0.5, 0.25]), 0.0, 0.625))
    [0.625 0.3125 0.0625]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `lower`, `upper` or `w` is a tree whose structure or shapes differ from those of `tree`, or `c` is not
        a scalar.
    """
    who = "projection_box_section"
    x, restored = vector(who, tree)
    data = [vector_like(who, name, d, tree, x) for name, d in (("lower", lower), ("upper", upper), ("w", w))]
    return restored(_section(x, *data, number(who, "c", c, x.dtype, signed=True)) if x.size else x)


class _Solution(NamedTuple):
    p: Array
    free: Array  # True for entries at neither bound
    at_lower: Array  # True for entries at `lower`, among those that are not free


@jax.jit
def _solve(x: Array, lower: Array, upper: Array, w: Array, c: Array) -> _Solution:
    weight, turned = jnp.abs(w), w < 0
    y = jnp.where(turned, -x, x)
    low, high = jnp.where(turned, -upper, lower), jnp.where(turned, -lower, upper)
    some = weight > 0
    divisor = jnp.where(some, weight, 1)
    # As t grows, an entry leaves its upper bound at `first` and reaches its lower bound at `last`.
    first, last = (jnp.where(some, (y - bound) / divisor, 0) for bound in (high, low))

    def excess(t: Array) -> Array:
        moved = jnp.where(some, y - jnp.where(some, t * divisor, 0), y)
        return jnp.sum(jnp.where(some, weight * jnp.clip(moved, low, high), 0)) - c

    ends = jnp.sort(jnp.concatenate([jnp.array([-jnp.inf], x.dtype), first, last, jnp.array([jnp.inf], x.dtype)]))

    def halve(_: int, places: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = places
        middle = (left + right) // 2
        positive = excess(ends[middle]) >= 0
        return jnp.where(positive, middle, left), jnp.where(positive, right, middle)

    left, right = mesh.fori_loop(0, ends.size.bit_length(), halve, (jnp.array(0), jnp.array(ends.size - 1)))
    start, end = ends[left], ends[right]
    free = some & (first <= start) & (end <= last)
    at_low = (some & (last <= start)) | (~some & (y <= low))
    at_high = (some & (first >= end) & ~at_low) | (~some & (y >= high))
    # Shift free entries first: they are then near the box, so no accuracy is lost if x is far away from it.
    shift = jnp.where(jnp.isfinite(start), start, jnp.where(jnp.isfinite(end), end, 0))
    p = jnp.where(free, y - shift * weight, jnp.where(at_low, low, jnp.where(at_high, high, y)))
    size = jnp.maximum(jnp.sum(jnp.where(free, weight * weight, 0)), jnp.finfo(x.dtype).tiny)
    for _ in range(2):  # the second pass corrects the rounding of the first
        p = jnp.where(free, p - weight * ((_dot(weight, p) - c) / size), p)
    p = jnp.where(free, jnp.clip(p, low, high), p)
    bearable = 1e3 * x.size * jnp.finfo(x.dtype).eps * (_dot(weight, jnp.abs(p)) + jnp.abs(c))
    p = jnp.where(jnp.abs(_dot(weight, p) - c) <= bearable, p, jnp.nan)
    at_lower = jnp.where(turned, at_high, at_low)
    return _Solution(jnp.where(turned, -p, p), free | ~(some | at_low | at_high), at_lower)


def _dot(w: Array, p: Array) -> Array:
    return jnp.sum(jnp.where(w == 0, 0, w * p))


@jax.custom_jvp
def _section(x: Array, lower: Array, upper: Array, w: Array, c: Array) -> Array:
    return _solve(x, lower, upper, w, c).p


@_section.defjvp
def _section_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (x, _, _, w, _), (dx, dlower, dupper, dw, dc) = primals, tangents
    p, free, at_lower = _solve(*primals)
    inside = jnp.where(free, w, 0)
    size = jnp.sum(inside * inside)
    size = jnp.where(size > 0, size, 1)
    t = jnp.sum(inside * (x - p)) / size
    dp = jnp.where(free, dx - t * dw, jnp.where(at_lower, dlower, dupper))
    dt = (jnp.sum(w * dp) + jnp.sum(dw * p) - dc) / size
    return p, dp - inside * dt
