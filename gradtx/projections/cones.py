"""The second-order cone |v| <= scale * t, of vectors (v, t).

p = (v, t)                          inside the cone
p = 0                               where scale |v| <= -t, inside the polar cone
p = (scale s v / |v|, s)            elsewhere, with s = (scale |v| + t) / (1 + scale^2)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import tree as trees
from gradtx.projections.vector import number, unit, vector

__all__ = ["projection_second_order_cone"]


def projection_second_order_cone(tree: Any, scale: ArrayLike = 1) -> Any:
    """The nearest tree whose last entry, times `scale`, is at least the Euclidean norm of all others.

    The last entry is that of the last leaf, so that a pair `(v, t)` of a tree and a number is a point of the cone where
    |v| <= scale t.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> v, t = gx.projection_second_order_cone((jnp.array([3.0, 4.0]), jnp.array(0.0)))
    >>> print(v, t)
    [1.5 2. ] 2.5

    Raises:
      TypeError: a leaf is complex or no floating array.
      ValueError: `scale` is a negative number, or not a scalar.
    """
    who = "projection_second_order_cone"
    x, restored = vector(who, tree)
    return restored(_in_cone(x, number(who, "scale", scale, x.dtype)) if x.size else x)


@jax.jit
def _in_cone(x: Array, slope: Array) -> Array:
    size = unit(x)
    v, t = x[:-1] / size, x[-1] / size
    norm = trees.norm(v).astype(x.dtype)
    inside, polar = norm <= slope * t, slope * norm <= -t
    height = (slope * norm + t) / (1 + slope * slope)
    edge = jnp.append(v * (slope * height / jnp.where(norm > 0, norm, 1)), height)
    return jnp.where(inside, x, jnp.where(polar, 0, size * edge))
