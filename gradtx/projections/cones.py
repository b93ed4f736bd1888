"""Projection onto the second-order cone |v| <= scale * t of vectors (v, t).

p = (v, t)                          inside the cone
p = 0                               if scale |v| <= -t, inside the polar cone
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
    """Projects onto the second-order cone: vectors (v, t) with |v| <= scale * t.

    Args:
      tree: The tree to project, treated as one vector whose last entry (of the last leaf) is t and whose other entries
        are v. The usual argument is a pair `(v, t)` of a tree and a number. Leaves must be real.
      scale: Ratio of the largest norm of v to t. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> v, t = gx.projection_second_order_cone((jnp.array([3.0, 4.0]), jnp.array(0.0)))
    >>> print(v, t)
    [1.5 2. ] 2.5

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
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
