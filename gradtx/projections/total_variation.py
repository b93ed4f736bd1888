"""The proximal operator of total variation in one dimension, solved exactly in one pass forward and one back.

    p = argmin sum (p_i - x_i)^2 / 2 + r sum |p_(i+1) - p_i|,    r = scaling * reg

The smallest cost of the first k entries, as a function of the k-th, is convex, and its derivative d_k is
continuous, increasing and piecewise linear:

    d_1(z) = z - x_1,     d_(k+1)(z) = z - x_(k+1) + min(max(d_k(z), -r), r)

At the last entry it is zero. Going back, p_k = min(max(p_(k+1), low_k), high_k), where d_k(low_k) = -r and
d_k(high_k) = r (Johnson, 2013, "A Dynamic Programming Algorithm for the Fused Lasso and L0-Segmentation"). The
knots of d_k are kept in order of z, each with the change of slope and intercept there. Cutting at low and high
removes knots at the ends and adds one on either side, so all steps together are O(n); they are small and
sequential.

The result is constant on blocks. On each block it is the mean of x plus r times the signs of its two jumps, so the
result to full precision and its derivative are computed from the blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import mesh
from gradtx.projections.order import block_means, blocks
from gradtx.projections.vector import number, unit, vector

__all__ = ["prox_total_variation"]


def prox_total_variation(tree: Any, reg: ArrayLike = 1, scaling: ArrayLike = 1) -> Any:
    """Applies the proximal operator of total variation: replaces a noisy signal by a piecewise constant
    approximation.

    The penalty is `reg` times the sum of |p_(i+1) - p_i|. For many signals at once use `jax.vmap`.

    Args:
      tree: The signal, a tree treated as one vector in the order of its leaves. Leaves must be real.
      reg: Factor of the total variation, a number; a larger factor gives fewer jumps. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_total_variation(jnp.array([1.0, 2.0, 1.0, 7.0, 9.0])))
    [1.6666666 1.6666666 1.6666666 7.        8.       ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `reg` or `scaling` is negative or not a scalar.
    """
    who = "prox_total_variation"
    x, restored = vector(who, tree)
    r = number(who, "reg", reg, x.dtype) * number(who, "scaling", scaling, x.dtype)
    return restored(_denoised(x, r) if x.size > 1 else x)


class _Line(NamedTuple):
    """A piece of the derivative: slope * z + intercept."""

    slope: Array
    intercept: Array


class _Knots(NamedTuple):
    """Knots from index `left` to `right`, and how the line changes when z passes each of them from left to right."""

    left: Array
    right: Array
    place: Array
    slope: Array
    intercept: Array


def _cut_left(knots: _Knots, line: _Line, level: Array) -> tuple[Array, _Line]:
    """Returns the first knot from the left at which the derivative exceeds `level`, and the piece that ends there."""

    def below(carry: tuple[Array, _Line]) -> Array:
        i, line = carry
        return (i <= knots.right) & (line.slope * knots.place[i] + line.intercept <= level)

    def step(carry: tuple[Array, _Line]) -> tuple[Array, _Line]:
        i, line = carry
        return i + 1, _Line(line.slope + knots.slope[i], line.intercept + knots.intercept[i])

    return mesh.while_loop(below, step, (knots.left, line))


def _cut_right(knots: _Knots, line: _Line, level: Array, least: Array) -> tuple[Array, _Line]:
    """Returns the last knot, not before `least`, at which the derivative is below `level`, and the piece after it."""

    def above(carry: tuple[Array, _Line]) -> Array:
        i, line = carry
        return (i >= least) & (line.slope * knots.place[i] + line.intercept >= level)

    def step(carry: tuple[Array, _Line]) -> tuple[Array, _Line]:
        i, line = carry
        return i - 1, _Line(line.slope - knots.slope[i], line.intercept - knots.intercept[i])

    return mesh.while_loop(above, step, (knots.right, line))


@jax.jit
def _steps(x: Array, r: Array) -> Array:
    """Returns the solution, up to the rounding of the knots."""
    n = x.size
    zeros = jnp.zeros(2 * n, x.dtype)
    one, nothing = jnp.ones((), x.dtype), jnp.zeros((), x.dtype)

    def cut(k: Any, carry: tuple[_Knots, Array, Array]) -> tuple[_Knots, Array, Array]:
        """Returns the two cuts of d_k, whose outer pieces are z - x_k - r and z - x_k + r, and the knots that
        remain.
        """
        knots, low, high = carry
        outer = jnp.where(k > 0, r, 0)
        i, first = _cut_left(knots, _Line(one, -x[k] - outer), -r)
        j, last = _cut_right(knots, _Line(one, -x[k] + outer), r, i)
        start = (-r - first.intercept) / first.slope
        end = (r - last.intercept) / last.slope
        # Outside the cuts the derivative is constant, -r and r; inside it is unchanged.
        left, right = i - 1, j + 1
        place = knots.place.at[left].set(start).at[right].set(end)
        slope = knots.slope.at[left].set(first.slope).at[right].set(-last.slope)
        intercept = knots.intercept.at[left].set(first.intercept + r).at[right].set(r - last.intercept)
        return _Knots(left, right, place, slope, intercept), low.at[k].set(start), high.at[k].set(end)

    middle = jnp.array(n, jnp.int32)
    knots = _Knots(middle, middle - 1, zeros, zeros, zeros)
    knots, low, high = mesh.fori_loop(0, n - 1, cut, (knots, zeros[:n], zeros[:n]))
    _, line = _cut_left(knots, _Line(one, -x[-1] - r), nothing)

    def back(after: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        p = jnp.minimum(jnp.maximum(after, bounds[0]), bounds[1])
        return p, p

    final = -line.intercept / line.slope
    _, p = mesh.scan(back, final, (low[:-1], high[:-1]), reverse=True)
    return jnp.append(p, final)


def _of_blocks(p: Array, x: Array, r: Array) -> Array:
    """Returns for each block of p the mean of x, shifted by r for each jump at the block's two sides."""
    up = jnp.sign(p[1:] - p[:-1])
    push = jnp.concatenate([up, jnp.zeros(1, p.dtype)]) - jnp.concatenate([jnp.zeros(1, p.dtype), up])
    return block_means(x + r * push, blocks(p))


@jax.custom_jvp
def _denoised(x: Array, r: Array) -> Array:
    size = unit(jnp.append(x, r))
    x, r = x / size, r / size
    return size * _of_blocks(_steps(x, r), x, r)


@_denoised.defjvp
def _denoised_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    p = _denoised(*primals)
    return p, _of_blocks(p, *tangents)
