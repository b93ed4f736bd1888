"""Linear minimization oracles: s = argmin <g, s> over a set, for a gradient g.

    simplex        scale e_i,  i = argmin g                        oracle_simplex
    l1 ball        -scale sign(g_i) e_i,  i = argmax |g|           oracle_l1_ball
    l2 ball        -scale g / |g|                                  oracle_l2_ball
    linf ball      -scale sign(g)                                  oracle_linf_ball
    box            lower if g > 0, upper if g < 0                  oracle_box
    nuclear ball   -scale u v^T, the leading singular vectors      oracle_nuclear_ball

If there are several minimizers, an oracle returns one of them. For sets with corners, the derivative of the oracle with
respect to the gradient is 0. If the gradient is 0, every point of the set is a minimizer; then the oracle returns the
center of the set, or the first corner if there is no center.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import leaf, mesh, tree
from gradtx.linalg.power_iteration import leading_singular_vectors
from gradtx.projections.vector import check, number

__all__ = [
    "oracle_box",
    "oracle_l1_ball",
    "oracle_l2_ball",
    "oracle_linf_ball",
    "oracle_nuclear_ball",
    "oracle_simplex",
]


def oracle_simplex(g: ArrayLike, scale: ArrayLike = 1) -> Array:
    """Returns the point of the simplex that minimizes the inner product with `g`: the corner for the smallest entry of
    `g`.

    Use oracles with `gx.frank_wolfe`.

    Args:
      g: The gradient, a real floating-point array of any shape.
      scale: The sum of all entries of the simplex's points. Not negative; 1 by default.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_simplex(jnp.array([3.0, -1.0, 0.0]), 2.0))
    [0. 2. 0.]

    Raises:
      TypeError: `g` is not a real floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    x, radius = _given("oracle_simplex", g, scale)
    return leaf.narrow(_corner(-x) * radius, jnp.result_type(g))


def oracle_l1_ball(g: ArrayLike, scale: ArrayLike = 1) -> Array:
    """Returns the point of the l1 ball that minimizes the inner product with `g`: a corner, with one nonzero entry.

    Args:
      g: The gradient, a real floating-point array of any shape.
      scale: Radius of the ball, the largest sum of absolute values. Not negative; 1 by default.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_l1_ball(jnp.array([3.0, -1.0, 0.0]), 2.0))
    [-2.  0.  0.]

    Raises:
      TypeError: `g` is not a real floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    x, radius = _given("oracle_l1_ball", g, scale)
    found = jnp.where(_corner(jnp.abs(x)) > 0, -jnp.sign(x) * radius, 0)
    return leaf.narrow(found, jnp.result_type(g))


def oracle_l2_ball(g: ArrayLike, scale: ArrayLike = 1) -> Array:
    """Returns the point of the Euclidean ball that minimizes the inner product with `g`: `-scale * g / |g|`.

    Args:
      g: The gradient, a real floating-point array of any shape.
      scale: Radius of the ball. Not negative; 1 by default.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_l2_ball(jnp.array([3.0, -4.0]), 5.0))
    [-3.  4.]

    Raises:
      TypeError: `g` is not a real floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    x, radius = _given("oracle_l2_ball", g, scale)
    unit, norm = tree.scaled(x)
    return leaf.narrow(-x * (1 / unit) * leaf.ratio(radius, norm), jnp.result_type(g))


def oracle_linf_ball(g: ArrayLike, scale: ArrayLike = 1) -> Array:
    """Returns the point of the ball of the maximum norm that minimizes the inner product with `g`: `-scale * sign(g)`.

    Args:
      g: The gradient, a real floating-point array of any shape.
      scale: Radius of the ball, the largest absolute value of an entry. Not negative; 1 by default.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_linf_ball(jnp.array([3.0, -4.0])))
    [-1.  1.]

    Raises:
      TypeError: `g` is not a real floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    x, radius = _given("oracle_linf_ball", g, scale)
    return leaf.narrow(-jnp.sign(x) * radius, jnp.result_type(g))


def oracle_box(g: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    """Returns the corner of a box that minimizes the inner product with `g`.

    Args:
      g: The gradient, a real floating-point array of any shape.
      lower: The lower bounds: a finite number, or an array like `g`.
      upper: The upper bounds: a finite number, or an array like `g`.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_box(jnp.array([3.0, -4.0]), -1.0, 2.0))
    [-1.  2.]

    Raises:
      TypeError: `g` is not a real floating-point array.
    """
    x, _ = _given("oracle_box", g, 1)
    low, high = (jnp.asarray(b).astype(x.dtype) for b in (lower, upper))
    found = jnp.where(x > 0, low, jnp.where(x < 0, high, (low + high) / 2))
    return leaf.narrow(found, jnp.result_type(g))


def oracle_nuclear_ball(g: ArrayLike, scale: ArrayLike = 1) -> Array:
    """Returns the matrix of the nuclear-norm ball that minimizes the inner product with `g`; it has rank 1.

    The singular vectors are found by power iteration. Derivatives treat them as constants.

    Args:
      g: The gradient: a matrix, or a stack of matrices in its last two axes, which are treated separately. A vector is
        treated as a matrix with one column.
      scale: The largest sum of singular values. Not negative; 1 by default.

    Returns:
      An array like `g`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.oracle_nuclear_ball(jnp.array([[3.0, 0.0], [0.0, 1.0]])).round(3) + 0.0)
    [[-1.  0.]
     [ 0.  0.]]

    Raises:
      TypeError: `g` is not a real floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    x, radius = _given("oracle_nuclear_ball", g, scale)
    if not x.size:
        return jnp.asarray(g)
    found = mesh.automatic(_outer_of_leading, lax.stop_gradient(x), like=x)
    return leaf.narrow(-radius * found, jnp.result_type(g))


def _outer_of_leading(x: Array) -> Array:
    """Returns for each matrix the outer product of its leading singular vectors."""
    stack = x.reshape(-1, *x.shape[-2:]) if x.ndim > 1 else x.reshape(1, -1, 1)
    u, v = jax.vmap(leading_singular_vectors)(stack)
    return (u[:, :, None] * v[:, None, :]).reshape(x.shape)


def _given(who: str, g: Any, scale: Any) -> tuple[Array, Array]:
    check(who, g, name="g")
    x = leaf.widen(jnp.asarray(g))
    return x, number(who, "scale", scale, x.dtype)


def _corner(x: Array) -> Array:
    """Returns 1 at the first of the largest entries and 0 elsewhere."""
    return mesh.automatic(_one_at_largest, x, like=x) if x.size else x


def _one_at_largest(x: Array) -> Array:
    flat = x.ravel()
    return (jnp.arange(flat.size) == jnp.argmax(flat)).astype(x.dtype).reshape(x.shape)
