"""Newton-Schulz iteration: the nearest orthogonal matrix, roughly, by multiplications alone.

    X_0 = X / (|X| + eps)
    A = X_k X_k^H
    X_(k+1) = a X_k + (b A + c A^2) X_k

With (a, b, c) = (1.5, -0.5, 0) every singular value below sqrt(3) converges to 1; the larger coefficients in use bring
them near 1 in five steps, and do not converge. Bernstein and Newhouse, 2024, "Old Optimizer, New Norm: An
Anthology", appendix A; Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, sums

__all__ = ["PRECONDITIONINGS", "coefficients", "orthogonalize"]

PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
"""What brings the singular values below about 1 first: the norm, the largest singular value, the sums of the rows of
|A| (almost orthogonal layers), the root of the norm of A."""

_MOST_EPS = 1e-6

_PRESETS = {
    "standard": ((3.4445, -4.7750, 2.0315),),
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


def coefficients(who: str, name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    """An argument that is a triple of coefficients, a sequence of triples, or the name of a preset, as triples.

    'standard' is Jordan's triple; 'dion' has one for each of five steps (Ahn et al., 2025, "Dion: Distributed
    Orthonormalized Updates").
    """
    rows = _PRESETS.get(value, value) if isinstance(value, str) else value
    if isinstance(rows, (tuple, list)) and all(isinstance(row, (tuple, list)) for row in rows):
        rows = tuple(map(tuple, rows))
    else:
        rows = (tuple(rows) if isinstance(rows, list) else rows,)
    if not rows or not all(isinstance(row, tuple) and len(row) == 3 and all(map(leaf.is_number, row)) for row in rows):
        raise ValueError(
            f"{who}: {name} must be three numbers, a sequence of such triples, one for each step, or one of "
            f"{', '.join(map(repr, _PRESETS))}, got {value!r}."
        )
    return rows


def orthogonalize(
    x: Array,
    coefficients: Sequence[tuple[float, float, float]],
    *,
    eps: Any = 1e-8,
    eps_is_floor: bool = False,
    preconditioning: str = "frobenius",
    dtype: Any = None,
) -> Array:
    """Matrices (..., m, n) with their singular values near 1, one step for each triple of coefficients.

    `eps` is added to the norm, but a millionth of the norm at most, so that the result does not depend on the unit of
    `x`. With `eps_is_floor` it is the least norm to divide by. Products are taken of numbers rounded to `dtype` (x's
    own by default) and summed in x's. Zeros stay zeros.
    """
    settings = {"eps": eps, "eps_is_floor": eps_is_floor, "preconditioning": preconditioning, "dtype": dtype}
    if x.ndim == 3 and len(x) == 1:  # a product of two matrices is quicker than one of two stacks of one
        return orthogonalize(x[0], coefficients, **settings)[None]
    if x.shape[-2] > x.shape[-1]:  # A is the smaller product
        return jnp.swapaxes(orthogonalize(jnp.swapaxes(x, -1, -2), coefficients, **settings), -1, -2)
    wide = x.dtype

    def rounded(x: Array) -> Array:
        return x if dtype is None else leaf.narrow(x, dtype)

    def dot(x: Array, y: Array) -> Array:
        return jnp.matmul(x, y, precision=lax.Precision.HIGHEST, preferred_element_type=wide)

    x = rounded(_preconditioned(x, eps, eps_is_floor, preconditioning))
    for a, b, c in coefficients:
        gram = rounded(dot(x, _adjoint(x)))
        x = rounded(x.astype(wide) * a + dot(rounded(gram * b + dot(gram, gram) * c), x))
    return x.astype(wide)


def _adjoint(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2).conj()


def _norm(x: Array) -> Array:
    return leaf.root(jnp.sum(leaf.abs_sq(x), axis=(-2, -1), keepdims=True))


def _of_norm_one(x: Array, eps: Any, eps_is_floor: bool) -> Array:
    unit, size = sums.scaled_norm([x], (x.ndim - 2, x.ndim - 1))
    size = jnp.where(size > 0, size, 1)
    return x / unit[..., None, None] / _divisor(size, eps / unit, eps_is_floor)[..., None, None]


def _divisor(size: Array, eps: Array, eps_is_floor: bool) -> Array:
    return jnp.maximum(size, eps) if eps_is_floor else size + jnp.minimum(eps, size * _MOST_EPS)


def _preconditioned(x: Array, eps: Any, eps_is_floor: bool, kind: str) -> Array:
    if kind == "frobenius":
        return _of_norm_one(x, eps, eps_is_floor)
    # In units of the largest entry, whose square might overflow; the result does not depend on the unit.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    x = x / unit
    if kind == "spectral":
        size = jnp.linalg.norm(x, ord=2, axis=(-2, -1), keepdims=True)
        return x / _divisor(jnp.where(largest == 0, 1, size), eps / unit, eps_is_floor)
    gram = jnp.matmul(x, _adjoint(x), precision=lax.Precision.HIGHEST)
    size = jnp.sum(jnp.abs(gram), axis=-1, keepdims=True) if kind == "aol" else _norm(gram)
    size = jnp.where(largest == 0, 1, size)
    return x / leaf.root(jnp.maximum(size, eps / unit / unit) if eps_is_floor else size)
