"""Projections onto boxes: each entry is clipped.

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
    """Projects onto the nonnegative vectors: sets negative entries to 0.

    Args:
      tree: The tree to project. Leaves must be real.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_non_negative(jnp.array([-1.0, 2.0])))
    [0. 2.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
    """
    leaves = check("projection_non_negative", tree)
    return narrowed([jnp.where(x <= 0, 0, x) for x in map(jnp.asarray, leaves)], tree)


def projection_box(tree: Any, lower: Any, upper: Any) -> Any:
    """Projects onto a box: clips each entry to the interval from `lower` to `upper`.

    Args:
      tree: The tree to project. Leaves must be real.
      lower: The lower bounds: a number, or a tree like `tree` of arrays or numbers. May be -inf.
      upper: The upper bounds, in the same forms. May be inf.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_box(jnp.array([-1.0, 0.5, 2.0]), 0, jnp.array([1.0, 1.0, jnp.inf])))
    [0.  0.5 2. ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: a bound is a tree whose structure or shapes differ from those of `tree`, or both bounds are numbers
        and `lower` is larger than `upper`.
    """
    return _box("projection_box", tree, lower, upper)


def projection_hypercube(tree: Any, scale: Any = 1) -> Any:
    """Projects onto a cube: clips each entry to the interval from 0 to `scale`.

    Args:
      tree: The tree to project. Leaves must be real.
      scale: The upper bounds: a number, or a tree like `tree` of arrays or numbers. 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_hypercube(jnp.array([-1.0, 0.5, 2.0])))
    [0.  0.5 1. ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is a negative number, or a tree whose structure or shapes differ from those of `tree`.
    """
    return _box("projection_hypercube", tree, 0, scale, "scale")


def projection_linf_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects onto the ball of the maximum norm: clips each entry to a modulus of at most `scale`.

    Args:
      tree: The tree to project. Leaves may be complex; complex entries keep their angles.
      scale: Radius of the ball, the largest modulus of an entry. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_linf_ball(jnp.array([-3.0, 0.5])))
    [-1.   0.5]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_linf_ball"
    leaves = [widened(x) for x in check(who, tree, real=False)]
    radii = [number(who, "scale", scale, leaf.compute_dtype(x.dtype)) for x in leaves]
    return narrowed([_shrunk(x, radius) for x, radius in zip(leaves, radii, strict=True)], tree)


def _box(who: str, tree: Any, lower: Any, upper: Any, upper_name: str = "upper") -> Any:
    leaves = [widened(x) for x in check(who, tree)]
    if leaf.is_number(lower) and leaf.is_number(upper) and lower > upper:
        raise ValueError(
            f"{who}: there is no number between {lower} and {upper_name} = {upper}. "
            "Give a lower bound that is not larger."
        )
    bounds = zip(each_like(who, "lower", lower, tree), each_like(who, upper_name, upper, tree), strict=True)
    return narrowed([_between(x, *pair) for x, pair in zip(leaves, bounds, strict=True)], tree)


def _shrunk(x: Array, radius: Array) -> Array:
    return leaf.clip(x, radius) if jnp.iscomplexobj(x) else _between(x, -radius, radius)


def _between(x: Array, lower: Any, upper: Any) -> Array:
    lower, upper = (jnp.asarray(bound).astype(x.dtype) for bound in (lower, upper))
    return jnp.where(x <= lower, lower, jnp.where(x >= upper, upper, x))
