"""Power iteration: the leading singular vectors of a matrix.

    u <- A v / |A v|,    v <- A^T u / |A^T u|

From a vector that is not orthogonal to the leading one, the error falls by (sigma_2 / sigma_1)^2 in every iteration,
and that of the singular value by its square (Golub and Van Loan, 2013, "Matrix Computations", section 8.2.1).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import mesh, tree

__all__ = ["leading_singular_vectors"]

_ITERATIONS = 200


def leading_singular_vectors(a: Array) -> tuple[Array, Array]:
    """Unit vectors u and v with u^T A v the largest singular value of a real matrix; zeros where the matrix is zero.

    It starts from a fixed random vector, and ends when v moves no more than by rounding, after 200 iterations at most:
    of singular values that are nearly equal, u and v then mix the vectors.
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


def _unit(x: Array) -> Array:
    return x / _one_for_zero(tree.norm(x))


def _one_for_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)
