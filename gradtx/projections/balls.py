"""Projections onto Euclidean balls and spheres.

    projection_l2_ball     |p| <= scale       p = x min(1, scale / |x|)
    projection_l2_sphere   |p| = scale        p = x scale / |x|

The result is accurate even if the norm itself overflows or underflows.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import tree as trees
from gradtx.projections.vector import check, narrowed, number, widened

__all__ = ["projection_l2_ball", "projection_l2_sphere"]


def projection_l2_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the Euclidean ball: shrinks the tree to a norm of at most `scale`.

    Args:
      tree: The tree to project, treated as one vector. Leaves may be complex.
      scale: Radius of the ball. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l2_ball(jnp.array([3.0, 4.0])))
    [0.6 0.8]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_l2_ball"
    leaves = [widened(x) for x in check(who, tree, real=False)]
    radius = number(who, "scale", scale, trees.number(tree, 0).dtype)
    return narrowed(_in_ball(leaves, radius), tree)


def projection_l2_sphere(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the Euclidean sphere: scales the tree to the norm `scale`.

    Args:
      tree: The tree to project, treated as one vector. Leaves may be complex. If all entries are zero, all points of
        the sphere are equally near, and the point with equal entries is returned.
      scale: Radius of the sphere. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l2_sphere(jnp.array([0.3, 0.4])), gx.projection_l2_sphere(jnp.zeros(4)))
    [0.6 0.8] [0.5 0.5 0.5 0.5]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_l2_sphere"
    leaves = [widened(x) for x in check(who, tree, real=False)]
    radius = number(who, "scale", scale, trees.number(tree, 0).dtype)
    return narrowed(_on_sphere(leaves, radius), tree)


@jax.jit
def _in_ball(leaves: list[Array], radius: Array) -> list[Array]:
    first, second = trees.shrinking(leaves, radius)
    return [x * first.astype(x.dtype) * second.astype(x.dtype) for x in leaves]


@jax.jit
def _on_sphere(leaves: list[Array], radius: Array) -> list[Array]:
    unit, norm = trees.scaled(leaves)
    zero = norm == 0
    first, second = 1 / unit, radius / jnp.where(zero, 1, norm)
    level = radius / math.sqrt(max(trees.size(leaves), 1))

    def on_sphere(x: Array) -> Array:
        return jnp.where(zero, level.astype(x.dtype), x * first.astype(x.dtype) * second.astype(x.dtype))

    return [on_sphere(x) for x in leaves]
