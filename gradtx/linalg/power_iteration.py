"""Power iteration: the leading eigenvector, or the leading singular vectors, of a matrix.

    v <- A v / |A v|                                   the eigenvalue is v^T A v
    u <- A v / |A v|,    v <- A^T u / |A^T u|          the singular value is u^T A v

If the first vector is not orthogonal to the leading one, the error falls in every iteration by |lambda_2 /
lambda_1|, or by (sigma_2 / sigma_1)^2 (Golub and Van Loan, 2013, "Matrix Computations", sections 7.3.1 and 8.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree

__all__ = ["leading_singular_vectors", "power_iteration", "square"]

_ITERATIONS = 200


def leading_singular_vectors(a: Array) -> tuple[Array, Array]:
    """Returns unit vectors u and v with u^T A v the largest singular value of a real matrix; zeros for a matrix of
    zeros.

    It starts from a fixed random vector, and ends when v changes only by rounding, or after 200 iterations. If
    singular values are nearly equal, u and v then mix their vectors.
    """
    rows, columns = a.shape
    a = a / _one_for_zero(jnp.max(jnp.abs(a), initial=0))
    start = np.random.default_rng(0).normal(size=columns)
    v = jnp.asarray(start / np.linalg.norm(start), a.dtype) if columns else jnp.zeros((0,), a.dtype)
    eps = float(jnp.finfo(a.dtype).eps)

    def go_on(carry: tuple[Array, ...]) -> Array:
        count, _, _, moved = carry
        return (moved > 4 * eps) & (count < _ITERATIONS)

    def iterate(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        count, _, last, _ = carry
        u = _unit(a @ last)
        v = _unit(a.T @ u)
        return count + 1, u, v, tree.norm(v - last).astype(v.dtype)

    begin = jnp.zeros((), jnp.int32), jnp.zeros((rows,), a.dtype), v, jnp.ones((), a.dtype)
    _, u, v, _ = mesh.while_loop(go_on, iterate, begin)
    return u, v


def power_iteration(
    matrix: Array | Callable[[Any], Any],
    *,
    v0: Any = None,
    num_iters: Any = 100,
    error_tolerance: Any = 1e-6,
    precision: Any = lax.Precision.HIGHEST,
    key: Any = None,
) -> tuple[Array, Any]:
    """Finds the eigenvalue with the largest absolute value of a real matrix, and its eigenvector.

    Use it for the sharpness of a loss, with a Hessian-vector product as `matrix`. It converges slowly if two
    eigenvalues have nearly the same size, and not at all if they have opposite signs. Arithmetic is in float32 or
    wider. Only forward derivatives are supported.

    Args:
      matrix: A square matrix, or a function that multiplies a vector by it, from a tree to a tree like it.
      v0: The vector to start from, a vector or a tree of real arrays. Required if `matrix` is a function. None
        (default) for a random vector, uniform in [-1, 1].
      num_iters: Largest number of iterations. 100 by default.
      error_tolerance: Stop when |A v - lambda v| is less than this fraction of |lambda|. 1e-6 by default.
      precision: The precision of products with a matrix; the highest by default.
      key: The random key of the default start. None (default) for `jax.random.PRNGKey(0)`.

    Returns:
      The eigenvalue, a scalar, and the eigenvector, of norm 1. Both are zero for a matrix of zeros.

    Raises:
      TypeError: the matrix or `v0` is complex or not a floating-point array.
      ValueError: the matrix is not square, or `matrix` is a function and `v0` is missing.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> print(gx.power_iteration(jnp.array([[2.0, 1.0], [1.0, 2.0]]))[0].round(4))
    3.0
    >>> curvature = lambda v: gx.hvp(lambda x: jnp.sum(x**4), jnp.array([1.0, 2.0]), v)
    >>> value, vector = gx.power_iteration(curvature, v0=jnp.ones(2))
    >>> print(f"{value:.2f}", vector.round(3))
    48.00 [0. 1.]
    """
    who = "power_iteration"
    if callable(matrix):
        if v0 is None:
            raise ValueError(f"{who}: v0 is missing. A function does not tell the shape of its vectors: give one.")
        return _iterated(who, matrix, v0, num_iters, error_tolerance)
    a, exponent = leaf.in_units(square(who, matrix))
    if v0 is None:
        key = jax.random.PRNGKey(0) if key is None else key
        v0 = jax.random.uniform(key, a.shape[-1:], a.dtype, -1, 1)

    def multiply(v: Array) -> Array:
        return jnp.matmul(a, v.astype(a.dtype), precision=precision)

    value, vector = _iterated(who, multiply, v0, num_iters, error_tolerance)
    return leaf.shifted(value, exponent), vector


def square(who: str, matrix: Any) -> Array:
    """Returns a square matrix in float32 or wider; raises if it is not square or not real."""
    checks.floating(who, "matrix", matrix, [matrix])
    checks.real(who, "matrix", matrix, [matrix])
    if np.ndim(matrix) != 2 or np.shape(matrix)[0] != np.shape(matrix)[1]:
        raise ValueError(
            f"{who}: matrix must be square, got shape {np.shape(matrix)}. Use jax.vmap for several matrices."
        )
    return leaf.widen(jnp.asarray(matrix))


def _iterated(who: str, multiply: Callable[[Any], Any], v0: Any, num_iters: Any, tolerance: Any) -> tuple[Array, Any]:
    checks.floating(who, "v0", v0, jax.tree.leaves(v0))
    checks.real(who, "v0", v0, jax.tree.leaves(v0))
    dtypes = jax.tree.map(jnp.result_type, v0)

    def product(v: Any) -> tuple[Any, Array]:
        """Returns A v and v^T A v. The function gets vectors in the dtypes of `v0`."""
        z = jax.tree.map(leaf.widen, multiply(jax.tree.map(leaf.narrow, v, dtypes)))
        return z, tree.vdot(v, z)

    def go_on(carry: Any) -> Array:
        count, v, z, value = carry
        rest = jax.tree.map(lambda z, v: z - v * value.astype(z.dtype), z, v)
        return (count < num_iters) & ~(tree.norm(rest) <= jnp.abs(value) * tolerance)

    def iterate(carry: Any) -> Any:
        count, _, z, _ = carry
        v = _unit_tree(z)
        return count + 1, v, *product(v)

    start = _unit_tree(jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), v0))
    begin = jnp.zeros((), jnp.int32), start, *product(start)
    _, _, z, value = mesh.while_loop(go_on, iterate, begin)
    return value, jax.tree.map(leaf.narrow, _unit_tree(z), dtypes)


def _unit_tree(v: Any) -> Any:
    scale, size = tree.scaled(v)
    size = _one_for_zero(size)
    return jax.tree.map(lambda x: (x / scale.astype(x.dtype)) / size.astype(x.dtype), v)


def _unit(x: Array) -> Array:
    return x / _one_for_zero(tree.norm(x))


def _one_for_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
