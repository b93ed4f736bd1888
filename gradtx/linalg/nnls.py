"""Nonnegative least squares by an accelerated projected gradient method.

    minimize  |A x - b|^2 / 2   subject to  x >= 0

    x_(k+1) = max(p_k - A^T (A p_k - b) / L, 0),   p_(k+1) = x_(k+1) + (c_k - 1) / c_(k+1) (x_(k+1) - x_k)
    c_(k+1) = (1 + sqrt(1 + 4 c_k^2)) / 2,         c_0 = 0

The objective falls as L |x*|^2 / k^2 (Polyak, 2015, "Projected gradient method for non-negative least square"; Beck
and Teboulle, 2009, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems"). The gradient
is computed from A^T A and A^T b, or from A itself if it has fewer rows than columns.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, tree

__all__ = ["nnls"]


def nnls(
    A: Any,  # noqa: N803
    b: Any,
    iters: int,
    unroll: int | bool = 1,
    L: Any = None,  # noqa: N803
) -> Array:
    """Solves least squares with nonnegative unknowns, approximately.

    Use it for small problems inside a compiled program, also under `jax.vmap`; it has forward and reverse
    derivatives. Arithmetic is in float32 or wider, and the units of `A` and `b` do not matter. Rounding errors of
    the result grow with the square of the condition number of `A`, as for the normal equations.

    Args:
      A: A real matrix of shape (M, N).
      b: A vector of shape (M,), or a matrix of shape (M, K) for K problems with the same `A`.
      iters: Number of iterations. The larger the condition number of `A`, the more are needed. Not negative.
      unroll: Number of iterations that the compiler writes out in a row; see `jax.lax.scan`. 1 by default.
      L: An upper bound on the largest eigenvalue of A^T A; a smaller one gives longer steps. None (default) for the
        smaller of two norms of A^T A, or of A A^T if that is the smaller matrix.

    Returns:
      The unknowns, an array of shape (N,) or (N, K).

    Raises:
      TypeError: `A` or `b` is complex or not a floating-point array, or `iters` is not an integer.
      ValueError: the shapes do not fit, or `iters` is negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> x = gx.nnls(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([5.0, 6.0]), 1000)
    >>> print(f"{x[0]:.2f} {x[1]:.2f}")
    0.00 1.70
    """
    who = "nnls"
    iters = _checked(who, A, b, iters)
    dtype = np.dtype(jnp.result_type(A, b))
    wide = leaf.accumulator_dtype(dtype)
    a, unit_of_a = leaf.in_units(jnp.asarray(A, wide))
    b, unit_of_b = leaf.in_units(jnp.asarray(b, wide))
    tall = a.shape[0] >= a.shape[1]
    gram, target = _dot(a.T, a) if tall else _dot(a, a.T), _dot(a.T, b)
    bound = _bound(gram) if L is None else leaf.shifted(jnp.asarray(L, wide), -2 * unit_of_a)
    bound = jnp.where(bound == 0, 1, bound)

    def slope(x: Array) -> Array:
        return _dot(gram, x) - target if tall else _dot(a.T, _dot(a, x) - b)

    def step(carry: tuple[Array, ...], _: Any) -> tuple[tuple[Array, ...], None]:
        x, ahead, c = carry
        following = (1 + jnp.sqrt(1 + 4 * c**2)) / 2
        moved = jnp.maximum(ahead - slope(ahead) / bound, 0)
        return (moved, moved + (moved - x) * ((c - 1) / following), following), None

    start = jnp.zeros((a.shape[1], *b.shape[1:]), wide)
    (x, _, _), _ = lax.scan(step, (start, start, jnp.zeros((), wide)), length=iters, unroll=unroll)
    return leaf.narrow(leaf.shifted(x, unit_of_b - unit_of_a), dtype)


def _checked(who: str, A: Any, b: Any, iters: Any) -> int:  # noqa: N803
    for name, x in (("A", A), ("b", b)):
        checks.floating(who, name, x, [x])
        checks.real(who, name, x, [x])
    if np.ndim(A) != 2 or np.ndim(b) not in (1, 2) or np.shape(A)[0] != np.shape(b)[0]:
        raise ValueError(
            f"{who}: A must have shape (M, N), and b shape (M,) or (M, K), got {np.shape(A)} and {np.shape(b)}."
        )
    return checks.integer(who, "iters", iters, ge=0)


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def _bound(gram: Array) -> Array:
    """Returns an upper bound on the largest eigenvalue of a positive semidefinite matrix."""
    return jnp.minimum(tree.norm(gram), jnp.max(jnp.sum(jnp.abs(gram), axis=0), initial=0))
