"""Eigenvectors of symmetric matrices that change slowly: computed in full once, then updated by orthogonal iteration.

    A = Q diag(w) Q^H
    Q <- orthogonal factor of A Q          (Golub and Van Loan, 2013, "Matrix Computations", section 8.2.4)

A sum of few gradients has directions in which there was no gradient yet. Their eigenvalues are zero up to rounding,
so rounding would choose their eigenvectors. Here these are chosen along the axes at first, and an iteration keeps
them.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from gradtx import mesh
from gradtx.linalg.spectral import adjoint

__all__ = ["eigenbasis", "into_basis", "iterated_basis", "out_of_basis", "renewed_basis"]


def into_basis(x: Array, rows: Array | None, columns: Array | None) -> Array:
    """Transforms matrices into the bases of their rows and columns; a side without a basis is unchanged."""
    x = x if rows is None else adjoint(rows) @ x
    return x if columns is None else x @ columns


def out_of_basis(x: Array, rows: Array | None, columns: Array | None) -> Array:
    """Inverts `into_basis`."""
    x = x if rows is None else rows @ x
    return x if columns is None else x @ adjoint(columns)


def renewed_basis(a: Array, q: Array, first: Array) -> tuple[Array, Array]:
    """Returns the next basis after `q` (all eigenvectors the first time), and the order in which its columns began."""

    def begin() -> tuple[Array, Array]:
        return eigenbasis(a), jnp.broadcast_to(jnp.arange(q.shape[-1]), q.shape[:-1])

    return mesh.cond(first, begin, lambda: iterated_basis(a, q))


def eigenbasis(a: Array) -> Array:
    """Returns eigenvectors (..., n, n) as columns, those of the largest eigenvalues first."""
    w, q = jnp.linalg.eigh(_of_size_one(a))
    w, q = w[..., None, ::-1], q[..., ::-1]
    some = w > _floor(w)
    known = jnp.where(some, q, 0)
    rest = jnp.broadcast_to(jnp.eye(q.shape[-1], dtype=q.dtype), q.shape) - _dot(known, adjoint(known))
    return jnp.where(jnp.all(some, axis=-1, keepdims=True), q, jnp.linalg.qr(jnp.where(some, q, rest))[0])


def iterated_basis(a: Array, q: Array) -> tuple[Array, Array]:
    """Returns the basis `q` after a step of orthogonal iteration, and the order in which its columns began.

    First the columns are ordered by the size of A in their directions, the largest first. A direction that is not
    in the range of A, or does not change any more, is kept, except for making it orthogonal to the others.
    """
    moved = _dot(_of_size_one(a), q)
    w = jnp.sum(q.conj() * moved, axis=-2, keepdims=True).real
    order = jnp.argsort(jnp.where(w > _floor(w), -w, 0), axis=-1, stable=True)
    q, moved = (jnp.take_along_axis(x, order, axis=-1) for x in (q, moved))
    found, r = jnp.linalg.qr(moved)
    left = jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    still = left <= _floor(jnp.linalg.norm(moved, axis=-2, keepdims=True))
    return mesh.cond(jnp.any(still), lambda: _completed(moved, q, still), lambda: found), order[..., 0, :]


def _completed(moved: Array, q: Array, still: Array) -> Array:
    """Returns an orthogonal basis of the columns of `moved`, followed by the columns of `q` that are `still`."""
    last = jnp.argsort(still, axis=-1, stable=True)
    columns = jnp.take_along_axis(jnp.where(still, q, moved), last, axis=-1)
    return jnp.take_along_axis(jnp.linalg.qr(columns)[0], jnp.argsort(last, axis=-1), axis=-1)


def _floor(w: Array) -> Array:
    """Returns the largest eigenvalue that may be zero up to rounding."""
    return 10 * w.shape[-1] * float(jnp.finfo(w.dtype).eps) * jnp.max(w, axis=-1, keepdims=True, initial=0)


def _of_size_one(a: Array) -> Array:
    largest = jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True, initial=0)
    return a / jnp.where(largest > 0, largest, 1)


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
