"""Newton-Schulz iteration: approximates the nearest orthogonal matrix, only by matrix products.

    X_0 = X / |X|
    A = X_k X_k^H
    X_(k+1) = a X_k + (b A + c A^2) X_k

With (a, b, c) = (1.5, -0.5, 0) every singular value below sqrt(3) converges to 1. The larger coefficients in use
bring them near 1 in five steps, but do not converge. Bernstein and Newhouse, 2024, "Old Optimizer, New Norm: An
Anthology", appendix A; Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, sums

__all__ = ["PRECONDITIONINGS", "as_long_as_orthogonal", "coefficients", "orthogonalize", "triples"]

PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")
"""Divisors that first bring the singular values below about 1: the norm, the largest singular value, the sums of the
rows of |A| (almost orthogonal layers), the root of the norm of A."""

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
    "polar_express": (
        *(
            (a / 1.01, b / 1.01**3, c / 1.01**5)  # the paper's margin for singular values that rounding makes larger
            for a, b, c in (
                (8.28721201814563, -23.595886519098837, 17.300387312530933),
                (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
                (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
                (3.3184196573706015, -2.488488024314874, 0.51004894012372),
                (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
                (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
                (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
            )
        ),
        (1.875, -1.25, 0.375),
    ),
    "cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
}

_ENDLESS = ("polar_express", "cans")
"""The presets for any number of steps: their last triple is repeated."""


def coefficients(who: str, name: str, value: Any) -> str | tuple[Any, ...]:
    """Checks an argument that is a triple of coefficients, a sequence of triples, or the name of a preset.

    'standard' is Jordan's triple; 'dion' has one triple for each of five steps (Ahn et al., 2025, "Dion:
    Distributed Orthonormalized Updates"). 'polar_express' has the best polynomials of each step for singular values
    from 1e-3 to 1 (Amsel et al., 2025, "The Polar Express", algorithm 1). 'cans' has polynomials of the Chebyshev
    type (Grishina, Smirnov and Rakhuba, 2025, "Accelerating Newton-Schulz Iteration for Orthogonalization via
    Chebyshev-type Polynomials"), as NVIDIA's Emerging-Optimizers rounds them.
    """
    if isinstance(value, str) and value in _PRESETS:
        return value
    rows = value
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


def triples(who: str, value: Any, steps: int) -> tuple[Any, ...]:
    """Returns the coefficients of each of `steps` steps, given the result of `coefficients`."""
    rows = _PRESETS[value] if isinstance(value, str) else value
    if len(rows) == 1 or value in _ENDLESS:
        return (rows + rows[-1:] * steps)[:steps]
    if len(rows) != steps:
        raise ValueError(
            f"{who}: ns_coeffs has {len(rows)} triples for ns_steps={steps} steps. "
            "Give one triple for all steps, or one for each."
        )
    return rows


def orthogonalize(
    x: Array,
    coefficients: Sequence[tuple[float, float, float]],
    *,
    eps: Any = 0.0,
    eps_is_floor: bool = False,
    preconditioning: str = "frobenius",
    dtype: Any = None,
) -> Array:
    """Brings the singular values of matrices (..., m, n) near 1, with one step for each triple of coefficients.

    The result does not depend on the unit of `x`, except through `eps`, which is added to the norm (at most a
    millionth of the norm). With `eps_is_floor` it is a lower bound on the divisor instead. Products are computed
    from numbers rounded to `dtype` (by default the dtype of `x`) and summed in the dtype of `x`. Zeros stay zeros.
    """
    settings: dict[str, Any] = {
        "eps": eps,
        "eps_is_floor": eps_is_floor,
        "preconditioning": preconditioning,
        "dtype": dtype,
    }
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


def as_long_as_orthogonal(x: Array) -> Array:
    """Scales matrices (..., m, n) to the Frobenius norm of an orthogonal matrix, sqrt(min(m, n)); zeros stay zeros."""
    size = jnp.sum(leaf.abs_sq(x), axis=(-2, -1), keepdims=True)
    some = size > 0
    return x * jnp.where(some, math.sqrt(min(x.shape[-2:])) / jnp.sqrt(jnp.where(some, size, 1)), 0)


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
