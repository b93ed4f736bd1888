"""Fits factors Q_L and Q_R for which Q_L G Q_R^H is white, to one pair of a gradient and a random matrix at a time.

    A = Q_L G Q_R^H,    B = Q_L^(-H) V Q_R^(-1),    V has independent normal entries
    Q_L <- Q_L - rate triu(A A^H - B B^H) Q_L / |A A^H + B B^H|
    Q_R <- Q_R - rate triu(A^H A - B^H B) Q_R / |A^H A + B^H B|

|.| is a lower bound of the spectral norm. A factor is an upper triangular matrix (..., n, n); or the diagonal (...,
n) of one, for which the products are diagonal, too; or None, for the identity. Li, 2018, "Preconditioned Stochastic
Gradient Descent"; Pooladzandi and Li, 2024, "Curvature-Informed SGD via General Purpose Lie-Group Preconditioners".
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx.linalg.spectral import adjoint

__all__ = ["fitted", "preconditioned", "spectral_bound"]


def preconditioned(x: Array, rows: Array | None, columns: Array | None) -> Array:
    """Returns Q_L^H Q_L X Q_R^H Q_R for matrices (count, m, n)."""
    return _times(_times(_times(_times(x, rows), columns, right=True), rows, back=True), columns, right=True, back=True)


def fitted(
    x: Array, v: Array, rows: Array | None, columns: Array | None, rate: Any
) -> tuple[Array | None, Array | None]:
    """Returns both factors after a step, scaled to the same largest entry if there are two."""
    a = _times(_times(x, rows), columns, right=True)
    b = _divided(v, rows, columns)
    size = jnp.maximum(*(jnp.max(jnp.abs(y), axis=(1, 2), keepdims=True, initial=0) for y in (a, b)))
    a, b = a / jnp.where(size > 0, size, 1), b / jnp.where(size > 0, size, 1)
    rows = rows if rows is None else _stepped(rows, a, b, rate)
    columns = columns if columns is None else _stepped(columns, adjoint(a), adjoint(b), rate)
    if rows is None or columns is None:
        return rows, columns
    ratio = jnp.sqrt(_some(_largest(columns)) / _some(_largest(rows)))
    return rows * _along(ratio, rows), columns / _along(ratio, columns)


def spectral_bound(a: Array) -> Array:
    """Returns a lower bound of the spectral norm of Hermitian matrices (count, n, n), of shape (count, 1, 1)."""
    size = jnp.max(jnp.abs(a), axis=(1, 2), keepdims=True, initial=0)
    unit = a / jnp.where(size > 0, size, 1)
    longest = jnp.argmax(jnp.sum(jnp.abs(unit) ** 2, axis=1, keepdims=True), axis=2, keepdims=True)
    x = unit @ jnp.take_along_axis(unit, longest, axis=2)
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    return size * jnp.linalg.norm(unit @ (x / jnp.where(norm > 0, norm, 1)), axis=1, keepdims=True)


def _times(x: Array, q: Array | None, *, right: bool = False, back: bool = False) -> Array:
    """Returns Q X, or X Q^H with `right`; with `back` their adjoints, Q^H X and X Q."""
    if q is None:
        return x
    if q.ndim < x.ndim:
        return x * (q[:, None, :] if right else q[:, :, None])
    q = q if right == back else adjoint(q)
    return x @ q if right else q @ x


def _divided(v: Array, rows: Array | None, columns: Array | None) -> Array:
    """Returns B of the module's docstring."""
    if rows is not None and rows.ndim < v.ndim:
        v = v / rows[:, :, None]
    elif rows is not None:
        v = lax.linalg.triangular_solve(rows, v, left_side=True, transpose_a=True, conjugate_a=True)
    if columns is not None and columns.ndim < v.ndim:
        v = v / columns[:, None, :]
    elif columns is not None:
        v = lax.linalg.triangular_solve(columns, v, left_side=False)
    return v


def _stepped(q: Array, a: Array, b: Array, rate: Any) -> Array:
    """Returns the factor of the rows of A and B after a step."""
    if q.ndim < a.ndim:
        first, second = (jnp.sum(jnp.abs(y) ** 2, axis=2) for y in (a, b))
        return q - (first - second) * q * (rate / _some(jnp.max(first + second, axis=1, keepdims=True, initial=0)))
    first, second = (jnp.matmul(y, adjoint(y), precision=lax.Precision.HIGHEST) for y in (a, b))
    return q - jnp.triu(first - second) @ q * (rate / _some(spectral_bound(first + second)))


def _some(x: Array) -> Array:
    return jnp.where(x > 0, x, 1)


def _largest(q: Array) -> Array:
    return jnp.max(jnp.abs(q), axis=tuple(range(1, q.ndim)), initial=0)


def _along(ratio: Array, q: Array) -> Array:
    return jnp.expand_dims(ratio, tuple(range(1, q.ndim)))
