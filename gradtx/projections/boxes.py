"""Boxes, and a plane's section of one.

box           lower <= p <= upper          p_i = min(max(x_i, lower_i), upper_i)
non_negative  0 <= p
hypercube     0 <= p <= scale
linf_ball     max |p_i| <= scale
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.projections.vector import check, each_like, narrowed, number, widened

__all__ = ["projection_box", "projection_hypercube", "projection_linf_ball", "projection_non_negative"]


def projection_non_negative(tree: Any) -> Any:
    """Every entry that is negative becomes 0.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_non_negative(jnp.array([-1.0, 2.0])))
    [0. 2.]
    """
    leaves = check("projection_non_negative", tree)
    return narrowed([jnp.where(x <= 0, 0, x) for x in map(jnp.asarray, leaves)], tree)


def projection_box(tree: Any, lower: Any, upper: Any) -> Any:
    """Every entry becomes the nearest number between `lower` and `upper`.

    The bounds are numbers, or trees like `tree` of arrays or numbers; they may be infinite.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_box(jnp.array([-1.0, 0.5, 2.0]), 0, jnp.array([1.0, 1.0, jnp.inf])))
    [0.  0.5 2. ]

    Raises:
      TypeError: a leaf is complex or no floating array.
      ValueError: a bound is not like the tree, or a number `lower` is larger than a number `upper`.
    """
    return _box("projection_box", tree, lower, upper)


def projection_hypercube(tree: Any, scale: Any = 1) -> Any:
    """Every entry becomes the nearest number between 0 and `scale`, a number or a tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_hypercube(jnp.array([-1.0, 0.5, 2.0])))
    [0.  0.5 1. ]
    """
    return _box("projection_hypercube", tree, 0, scale, "scale")


def projection_linf_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Every entry becomes the nearest of modulus at most `scale`; a complex entry keeps its angle.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_linf_ball(jnp.array([-3.0, 0.5])))
    [-1.   0.5]
    """
    who = "projection_linf_ball"
    leaves = [widened(x) for x in check(who, tree, real=False)]
    radii = [number(who, "scale", scale, leaf.compute_dtype(x.dtype)) for x in leaves]
    return narrowed([_shrunk(x, radius) for x, radius in zip(leaves, radii, strict=True)], tree)


def _box(who: str, tree: Any, lower: Any, upper: Any, upper_name: str = "upper") -> Any:
    leaves = [widened(x) for x in check(who, tree)]
    if leaf.is_number(lower) and leaf.is_number(upper) and lower > upper:
        raise ValueError(
            f"{who}: there is no number between {lower} and {upper_name} = {upper}. Give bounds with a number between."
        )
    bounds = zip(each_like(who, "lower", lower, tree), each_like(who, upper_name, upper, tree), strict=True)
    return narrowed([_between(x, *pair) for x, pair in zip(leaves, bounds, strict=True)], tree)


def _shrunk(x: Array, radius: Array) -> Array:
    return leaf.clip(x, radius) if jnp.iscomplexobj(x) else _between(x, -radius, radius)


def _between(x: Array, lower: Any, upper: Any) -> Array:
    lower, upper = (jnp.asarray(bound).astype(x.dtype) for bound in (lower, upper))
    return jnp.where(x <= lower, lower, jnp.where(x >= upper, upper, x))
