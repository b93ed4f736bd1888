"""The inverse p-th root of a positive definite matrix, computed only by matrix products.

`gradtx.linalg.inverse_root` has the iteration and its sources. It begins with

    M_0 = z A,  H_0 = z^(1/p) I,    z = (p + 1) / (2 |A|)
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.linalg.inverse_root import coupled_newton
from gradtx.linalg.power_iteration import power_iteration, square

__all__ = ["matrix_inverse_pth_root"]


def matrix_inverse_pth_root(
    matrix: Any,
    p: int,
    num_iters: Any = 100,
    ridge_epsilon: Any = 1e-6,
    error_tolerance: Any = 1e-6,
    precision: Any = lax.Precision.HIGHEST,
) -> tuple[Array, Array]:
    """Computes (A + r I)^(-1/p) for a symmetric matrix A without negative eigenvalues.

    Use it for preconditioners such as Shampoo's, on hardware without a fast eigendecomposition. The ridge r makes
    the matrix definite and bounds the rounding errors of the root, which grow with the ratio of the eigenvalues.
    Arithmetic is in float32 or wider. Scaling the matrix by a number scales the root by that number to the power
    -1/p.

    Args:
      matrix: A real, symmetric, positive semidefinite matrix.
      p: Which root: a positive integer.
      num_iters: Largest number of iterations. About 2 log2(1 / ridge_epsilon) / p are enough; 100 by default.
      ridge_epsilon: The ridge r as a fraction of the largest eigenvalue. Not negative; 1e-6 by default.
      error_tolerance: Stop when no entry of |M - I| is larger, or when rounding stops the convergence. 1e-6 by
        default.
      precision: The precision of matrix products; the highest by default.

    Returns:
      The root, in the dtype of the matrix, and the largest entry of |M - I|: near 0 if the iteration has converged,
      large or NaN if the matrix has negative eigenvalues. For a matrix of zeros the root is zero and the error is
      1.

    Raises:
      TypeError: the matrix is complex or not a floating-point array, or `p` is not an integer.
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
    (root,), (error,) = coupled_newton(
        (a * z)[None], (eye * z ** (1 / p))[None], p, num_iters, error_tolerance, precision
    )
    # 2^(-exponent / p), where powers of 2^(-1/p) below p are numbers of double precision.
    powers = jnp.asarray([2 ** (-i / p) for i in range(p)], a.dtype)
    root = leaf.shifted((root + root.T) / 2 * powers[exponent % p], -(exponent // p))
    return leaf.narrow(root, np.dtype(jnp.result_type(matrix))), error
