"""Projections onto lines, hyperplanes and half-spaces.

projection_vector       p = s a                   p = a <a, x> / <a, a>
projection_hyperplane   <a, p> = b                p = x - a (<a, x> - b) / <a, a>
projection_halfspace    <a, p> <= b               p = x - a max(<a, x> - b, 0) / <a, a>
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.projections.vector import number, unit, vector, vector_like

__all__ = ["projection_halfspace", "projection_hyperplane", "projection_vector"]


def projection_vector(x: Any, a: Any) -> Any:
    """Projects onto the line through a vector: returns the nearest multiple of `a`.

    Args:
      x: The tree to project, treated as one vector. Leaves must be real.
      a: The direction of the line, a tree like `x`. If it is zero, the result is zero.

    Returns:
      A tree like `x`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_vector(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])))
    [2. 2.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: the structure or a shape of `a` differs from that of `x`.
    """
    who = "projection_vector"
    flat, restored = vector(who, x)
    return restored(_on_vector(flat, vector_like(who, "a", a, x, flat)))


def projection_hyperplane(x: Any, a: Any, b: ArrayLike) -> Any:
    """Projects onto the hyperplane of all vectors p with <a, p> = b.

    Args:
      x: The tree to project, treated as one vector. Leaves must be real.
      a: The normal vector, a tree like `x`. If it is zero, `x` is returned.
      b: The inner product of `a` with the points of the hyperplane, a number.

    Returns:
      A tree like `x`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_hyperplane(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 2.0))
    [0. 2.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: the structure or a shape of `a` differs from that of `x`, or `b` is not a scalar.
    """
    who = "projection_hyperplane"
    flat, restored = vector(who, x)
    a, b = vector_like(who, "a", a, x, flat), number(who, "b", b, flat.dtype, signed=True)
    return restored(_on_hyperplane(flat, a, b))


def projection_halfspace(x: Any, a: Any, b: ArrayLike) -> Any:
    """Projects onto the half-space of all vectors p with <a, p> <= b.

    Args:
      x: The tree to project, treated as one vector. Leaves must be real.
      a: The normal vector, which points out of the half-space; a tree like `x`.
      b: The largest inner product of `a` with the points of the half-space, a number.

    Returns:
      A tree like `x`; `x` itself if it is in the half-space.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_halfspace(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 5.0))
    [1. 3.]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: the structure or a shape of `a` differs from that of `x`, or `b` is not a scalar.
    """
    who = "projection_halfspace"
    flat, restored = vector(who, x)
    a, b = vector_like(who, "a", a, x, flat), number(who, "b", b, flat.dtype, signed=True)
    return restored(_in_halfspace(flat, a, b))


@jax.jit
def _on_vector(x: Array, a: Array) -> Array:
    a, scale = a / unit(a), unit(x)
    size = jnp.sum(a * a)
    some = size > 0
    return a * jnp.where(some, jnp.sum(a * (x / scale)) / jnp.where(some, size, 1), 0) * scale


@jax.jit
def _on_hyperplane(x: Array, a: Array, b: Array) -> Array:
    x, a, b, scale = _scaled(x, a, b)
    return scale * (x - a * _excess(x, a, b))


@jax.jit
def _in_halfspace(x: Array, a: Array, b: Array) -> Array:
    y, a, b, scale = _scaled(x, a, b)
    excess = _excess(y, a, b)
    return jnp.where(excess > 0, scale * (y - a * excess), x)


def _scaled(x: Array, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """Returns x, a and b scaled to entries near 1, and the factor that converts a result back to the unit of x."""
    a_unit = unit(a)
    scale = unit(jnp.append(x, b / a_unit))
    return x / scale, a / a_unit, b / a_unit / scale, scale


def _excess(x: Array, a: Array, b: Array) -> Array:
    """Returns (<a, x> - b) / <a, a>, with a second pass that corrects the rounding of the first."""
    size = jnp.sum(a * a)
    some = size > 0
    size = jnp.where(some, size, 1)
    first = (jnp.sum(a * x) - b) / size
    second = (jnp.sum(a * (x - a * first)) - b) / size
    return jnp.where(some, first + second, 0)
