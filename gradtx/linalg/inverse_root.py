"""The inverse p-th root of a positive definite matrix, by a coupled Newton iteration of products alone.

    T_k = ((p + 1) I - M_k) / p,    M_(k+1) = T_k^p M_k,    H_(k+1) = H_k T_k
    M_0 = z A,  H_0 = z^(1/p) I,    z = (p + 1) / (2 |A|)

M_k converges to I, and H_k to A^(-1/p); H_k^(-p) M_k stays A (Higham, 2008, "Functions of Matrices", section 7.3,
equation 7.18; Guo and Higham, 2006, "A Schur-Newton Method for the Matrix pth Root and its Inverse").
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree
from gradtx.linalg.power_iteration import power_iteration, square

__all__ = ["matrix_inverse_pth_root"]

_NEAR = 0.1
"""Below this error the iteration converges quadratically: what does not fall by half then is rounding."""


def matrix_inverse_pth_root(
    matrix: Any,
    p: int,
    num_iters: Any = 100,
    ridge_epsilon: Any = 1e-6,
    error_tolerance: Any = 1e-6,
    precision: Any = lax.Precision.HIGHEST,
) -> tuple[Array, Array]:
    """Computes (A + r I)^(-1/p) of a symmetric matrix A without negative eigenvalues.

    Take it for preconditioners, as in Shampoo, where there is no quick eigendecomposition. The ridge r makes the matrix
    definite, and bounds the rounding errors of the root, which grow with the ratio of the eigenvalues. Arithmetic is in
    float32 or wider; if the matrix is multiplied by a number, the root is by its power -1/p.

    Args:
      matrix: A real, symmetric, positive semidefinite matrix.
      p: Which root: a positive integer.
      num_iters: The most iterations (default 100). About 2 log2(1 / ridge_epsilon) / p are enough.
      ridge_epsilon: The ridge as a part of the largest eigenvalue (default 1e-6); not negative.
      error_tolerance: It ends when no entry of M - I is larger (default 1e-6), or when rounding stops the convergence.
      precision: The precision of products; by default the highest.

    Returns:
      The root, in the dtype of the matrix, and the largest entry of |M - I| as a scalar: near 0 if the iteration has
      converged, large or NaN if the matrix has negative eigenvalues. For a matrix of zeros these are zeros, and 1.

    Raises:
      TypeError: the matrix is complex or no array of floats, or `p` is no integer.
      ValueError: the matrix is not square, or `p` is not positive.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> root, error = gx.matrix_inverse_pth_root(jnp.diag(jnp.array([16.0, 81.0])), 4, ridge_epsilon=0.0)
    >>> print(root.round(3))
    [[0.5   0.   ]
     [0.    0.333]]
    """
    who = "matrix_inverse_pth_root"
    p = checks.integer(who, "p", p, ge=1)
    a, exponent = leaf.in_units(square(who, matrix))
    eye = jnp.eye(len(a), dtype=a.dtype)
    a = a + eye * (power_iteration(a, precision=precision)[0] * ridge_epsilon).astype(a.dtype)
    size = tree.norm(a).astype(a.dtype)
    z = jnp.where(size > 0, (p + 1) / (2 * jnp.where(size > 0, size, 1)), 0)
    root, error = _iterated(a * z, eye * z ** (1 / p), p, num_iters, error_tolerance, precision)
    # 2^(-exponent / p), where powers of 2^(-1/p) below p are numbers of double precision.
    powers = jnp.asarray([2 ** (-i / p) for i in range(p)], a.dtype)
    root = leaf.shifted((root + root.T) / 2 * powers[exponent % p], -(exponent // p))
    return leaf.narrow(root, np.dtype(jnp.result_type(matrix))), error


def _iterated(m: Array, h: Array, p: int, num_iters: Any, tolerance: Any, precision: Any) -> tuple[Array, Array]:
    """The last H, and how far the last M is from I."""
    eye = jnp.eye(len(m), dtype=m.dtype)

    def dot(x: Array, y: Array) -> Array:
        return jnp.matmul(x, y, precision=precision)

    def distance(m: Array) -> Array:
        return jnp.max(jnp.abs(m - eye), initial=0)

    def go_on(carry: Any) -> Array:
        count, _, _, error, falls = carry
        return (count < num_iters) & (error > tolerance) & falls

    def iterate(carry: Any) -> Any:
        count, *old, error, _ = carry
        m, h = old
        t = eye * (1 + 1 / p) - m / p
        new = dot(_power(t, p, dot), m), dot(h, t)
        after = distance(new[0])
        better = after < 1.2 * error  # it may grow a little before it falls
        m, h, kept = (jnp.where(better, *pair) for pair in zip((*new, after), (*old, error), strict=True))
        return count + 1, m, h, kept, better & ((after > _NEAR) | (after < error / 2))

    begin = jnp.zeros((), jnp.int32), m, h, distance(m), jnp.ones((), bool)
    _, _, h, error, _ = mesh.while_loop(go_on, iterate, begin)
    return h, error


def _power(x: Array, p: int, dot: Any) -> Array:
    """The p-th power, by squares."""
    if p == 1:
        return x
    half = _power(x, p // 2, dot)
    square = dot(half, half)
    return dot(square, x) if p % 2 else square
