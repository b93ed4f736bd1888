"""Lines, planes and half-spaces.

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
    """The nearest multiple of the tree `a`; zeros if `a` is zero.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_vector(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])))
    [2. 2.]

    Raises:
      TypeError: a leaf is complex or no floating array.
      ValueError: `a` is not like `x`.
    """
    who = "projection_vector"
    flat, restored = vector(who, x)
    return restored(_on_vector(flat, vector_like(who, "a", a, x, flat)))


def projection_hyperplane(x: Any, a: Any, b: ArrayLike) -> Any:
    """The nearest tree whose inner product with `a` is `b`.

    If `a` is zero there is none unless `b` is zero too, and `x` is returned.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_hyperplane(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 2.0))
    [0. 2.]
    """
    who = "projection_hyperplane"
    flat, restored = vector(who, x)
    a, b = vector_like(who, "a", a, x, flat), number(who, "b", b, flat.dtype, signed=True)
    return restored(_on_hyperplane(flat, a, b))


def projection_halfspace(x: Any, a: Any, b: ArrayLike) -> Any:
    """The nearest tree whose inner product with `a` is at most `b`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_halfspace(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0]), 5.0))
    [1. 3.]
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
    """The same problem with entries near 1, and the unit of x."""
    a_unit = unit(a)
    scale = unit(jnp.append(x, b / a_unit))
    return x / scale, a / a_unit, b / a_unit / scale, scale


def _excess(x: Array, a: Array, b: Array) -> Array:
    """(<a, x> - b) / <a, a>, where the rounding of the first result is corrected by a second."""
    size = jnp.sum(a * a)
    some = size > 0
    size = jnp.where(some, size, 1)
    first = (jnp.sum(a * x) - b) / size
    second = (jnp.sum(a * (x - a * first)) - b) / size
    return jnp.where(some, first + second, 0)
