"""Projections onto the simplex and the l1 ball, without sorting.

    projection_simplex   p >= 0, sum p = scale            p_i = max(x_i - t, 0) with the t that gives the sum
    projection_l1_ball   sum |p_i| <= scale               p_i = sign(x_i) max(|x_i| - t, 0), t >= 0
    projection_l1_sphere sum |p_i| = scale                p_i = sign(x_i) max(|x_i| - t, 0)

The threshold t is the root of f(t) = sum max(x_i - t, 0) - scale, which is convex, decreasing and piecewise linear.
Newton's method from the left reaches it exactly in finitely many steps: each step sets t to the right value for the
entries above the last t (Michelot, 1986, "A finite algorithm for finding the projection of a point onto the
canonical simplex of R^n"). At every step f or its slope halves, in the sense f_next / f + slope_next / slope <= 1.
From max x - scale on, f is at most n scale, so there are O(log n) steps, usually five or six. Sorting would be
slower on every device. The derivative is implicit: it subtracts the mean over the entries above the threshold.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import mesh
from gradtx.projections.vector import number, vector

__all__ = ["projection_l1_ball", "projection_l1_sphere", "projection_simplex", "threshold"]


def projection_simplex(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the simplex: nonnegative entries that sum to `scale`.

    Use it for probabilities and mixture weights.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      scale: The sum of all entries. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_simplex({"w": jnp.array([2.5, 3.25]), "b": jnp.array(0.5)})["w"])
    [0.125 0.875]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_simplex"
    x, restored = vector(who, tree)
    return restored(on_simplex(x, number(who, "scale", scale, x.dtype)))


def projection_l1_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the l1 ball: absolute values that sum to at most `scale`. Many entries become 0.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      scale: Radius of the ball, the largest sum of absolute values. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l1_ball(jnp.array([-2.5, 3.25, 0.5])))
    [-0.125  0.875  0.   ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_l1_ball"
    x, restored = vector(who, tree)
    return restored(_in_l1_ball(x, number(who, "scale", scale, x.dtype)))


def projection_l1_sphere(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the l1 sphere: absolute values that sum to `scale`.

    The sphere is not convex, so there may be several nearest points, of which one is returned. Zeros count as
    positive.

    Args:
      tree: The tree to project, treated as one vector. Leaves must be real.
      scale: Radius of the sphere, the sum of absolute values. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l1_sphere(jnp.array([-0.5, 0.75, 0.0])))
    [-0.375  0.625  0.   ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_l1_sphere"
    x, restored = vector(who, tree)
    return restored(_on_l1_sphere(x, number(who, "scale", scale, x.dtype)))


@jax.jit
def on_simplex(x: Array, scale: Array) -> Array:
    """Returns the point of the simplex nearest to a vector."""
    if not x.size:
        return x
    # Shifted so that the largest entry is 0, the others that matter are of the size of `scale`, and exact.
    y = x - lax.stop_gradient(jnp.max(x))
    t = threshold(y, scale)
    return jnp.where(y <= t, 0, y - t)


def _on_l1_sphere(x: Array, scale: Array) -> Array:
    return jnp.where(x < 0, -1, 1).astype(x.dtype) * on_simplex(jnp.abs(x), scale)


@jax.jit
def _in_l1_ball(x: Array, scale: Array) -> Array:
    inside = (jnp.sum(jnp.abs(x)) <= scale) & (scale > 0)
    return jnp.where(inside, x, _on_l1_sphere(x, scale))


@jax.custom_jvp
def threshold(y: Array, scale: Array) -> Array:
    """Returns the t with sum max(y - t, 0) = scale, for a vector whose largest entry is 0."""

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        t, _, last = carry
        # One reduction for both sums: two of them take twice as long in XLA's loops on the CPU.
        over = y > t
        total, count = jnp.sum(jnp.stack([jnp.where(over, y - t, 0), over.astype(y.dtype)]), axis=-1)
        new = t + (total - scale) / jnp.maximum(count, 1)
        # Of as many entries above t they are the same, and the step only mends rounding: up or down.
        return jnp.where(count == last, new, jnp.maximum(new, t)), last, count

    def fewer(carry: tuple[Array, Array, Array]) -> Array:
        _, last, count = carry
        return count != last

    none = jnp.full_like(scale, -1)
    return mesh.while_loop(fewer, step, step((-scale, none, none)))[0]


@threshold.defjvp
def _threshold_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (y, scale), (dy, dscale) = primals, tangents
    t = threshold(y, scale)
    above = y > t
    return t, (jnp.sum(jnp.where(above, dy, 0)) - dscale) / jnp.maximum(jnp.sum(above), 1).astype(y.dtype)
