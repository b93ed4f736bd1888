"""Euclidean balls and spheres.

    projection_l2_ball     |p| <= scale       p = x min(1, scale / |x|)
    projection_l2_sphere   |p| = scale        p = x scale / |x|

The norm is right whenever it is representable, and the result is right even where the norm is not.
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
    """The nearest tree whose Euclidean norm is at most `scale` (not negative). Leaves may be complex.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l2_ball(jnp.array([3.0, 4.0])))
    [0.6 0.8]

    Raises:
      TypeError: a leaf is no floating array.
      ValueError: `scale` is a negative number, or not a scalar.
    """
    who = "projection_l2_ball"
    leaves = [widened(x) for x in check(who, tree, real=False)]
    radius = number(who, "scale", scale, trees.number(tree, 0).dtype)
    return narrowed(_in_ball(leaves, radius), tree)


def projection_l2_sphere(tree: Any, scale: ArrayLike = 1) -> Any:
    """The nearest tree whose Euclidean norm is `scale` (not negative). Leaves may be complex.

    To zeros all points of the sphere are equally near; the one with equal entries is returned.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_l2_sphere(jnp.array([0.3, 0.4])), gx.projection_l2_sphere(jnp.zeros(4)))
    [0.6 0.8] [0.5 0.5 0.5 0.5]
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
