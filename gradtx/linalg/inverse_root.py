"""Inverse p-th roots of positive matrices: A^(-1/p) by eigenvalues, or only by matrix products.

    eigenvalues:       A = Q diag(w) Q^H,    A^(-1/p) = Q diag(w^(-1/p)) Q^H
    coupled Newton:    M_0 = z A,  H_0 = z^(1/p) I,  z = (p + 1) / (2 w_max)
                       T = ((p + 1) I - M_k) / p,    M_(k+1) = T^p M_k,    H_(k+1) = H_k T

M converges to I and H to A^(-1/p): Guo and Higham, 2006, "A Schur-Newton method for the matrix pth root and its
inverse"; Anil et al., 2020, "Scalable Second Order Optimization for Deep Learning", appendix.

First, `eps` times the largest eigenvalue is added to all eigenvalues. The root of a matrix of zeros is I.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import mesh
from gradtx.linalg.spectral import adjoint

__all__ = ["METHODS", "coupled_newton", "inverse_root"]

METHODS = ("eigh", "newton")

_NEWTON_STEPS = 100
_LARGEST_ERROR = 0.1
_NEAR = 0.1
"""Below this norm of M - I convergence is quadratic, so an error that does not fall by half is rounding."""


def inverse_root(a: Array, p: int, eps: Any, method: str = "eigh", dtype: Any = None) -> tuple[Array, Array]:
    """Returns (A + eps w_max I)^(-1/p) for matrices (count, n, n), and for each of them whether the root was found.

    It is computed in `dtype` if that is wider than the dtype of `a`. A root counts as found if it is finite, and,
    for the Newton iteration, if the last M is within 0.1 of I.
    """
    wide = a.dtype if dtype is None else jnp.promote_types(a.dtype, dtype)
    with _allowing(wide):
        x = lax.convert_element_type(a, wide)
        largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=0)
        unit = jnp.where(largest > 0, largest, 1)
        root, found = (_by_newton if method == "newton" else _by_eigenvalues)(x / unit, p, eps)
        root = jnp.where(largest > 0, root * (1 / unit) ** (1 / p), jnp.broadcast_to(_eye(x), x.shape))
        found = found & jnp.all(jnp.isfinite(root), axis=(1, 2))
        return lax.convert_element_type(root, a.dtype), found


def _allowing(dtype: Any) -> AbstractContextManager[Any]:
    """Enables float64 for this computation, in a program that may have it disabled."""
    wide = jnp.finfo(dtype).bits == 64
    return jax.enable_x64(True) if wide and not jax.config.read("jax_enable_x64") else nullcontext()


def _by_eigenvalues(a: Array, p: int, eps: Any) -> tuple[Array, Array]:
    w, q = jnp.linalg.eigh(a)
    # Eigenvalues that are not above rounding may come out negative.
    least = jnp.max(w, axis=-1, keepdims=True) * float(jnp.finfo(w.dtype).eps)
    w = jnp.maximum(w, least) + eps * jnp.max(w, axis=-1, keepdims=True)
    return _dot(q * (w ** (-1 / p))[:, None, :], adjoint(q)), jnp.ones(len(a), bool)


def _by_newton(a: Array, p: int, eps: Any) -> tuple[Array, Array]:
    eye, largest = _eye(a), _largest_eigenvalue(a)
    largest = jnp.where(largest > 0, largest, 1)
    scale = (p + 1) / (2 * (1 + eps) * largest)
    m = (a + eye * (eps * largest)) * scale
    tolerance = 10 * float(jnp.finfo(m.real.dtype).eps) * a.shape[-1]

    h = jnp.broadcast_to(eye, a.shape) * scale ** (1 / p)
    root, error = coupled_newton(m, h, p, _NEWTON_STEPS, tolerance)
    return root, error < _LARGEST_ERROR


def coupled_newton(
    m: Array, h: Array, p: int, limit: Any, tolerance: Any, precision: Any = lax.Precision.HIGHEST
) -> tuple[Array, Array]:
    """Returns the last H for each pair of matrices, and the largest entry of |M - I|.

    A pair is no longer changed when its error is at most `tolerance`, or when rounding stops its convergence.
    """
    eye, dot = _eye(m), functools.partial(jnp.matmul, precision=precision)
    near = _NEAR / max(m.shape[-1], 1)  # the norm of a matrix is at most n times its largest entry

    def error_of(m: Array) -> Array:
        return jnp.max(jnp.abs(m - eye), axis=(1, 2), keepdims=True, initial=0)

    def go_on(carry: tuple[Array, ...]) -> Array:
        count, _, _, _, better = carry
        return jnp.any(better) & (count < limit)

    def step(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        count, m, h, error, better = carry
        t = eye * (1 + 1 / p) - m / p
        new_m = dot(_power(t, p, dot), m)
        new_error = error_of(new_m)
        kept = better & (new_error < error * 1.2)  # it may grow a little before it falls
        falls = (new_error > near) | (new_error < error / 2)
        m, h, error = (jnp.where(kept, x, y) for x, y in ((new_m, m), (dot(h, t), h), (new_error, error)))
        return count + 1, m, h, error, kept & falls & (error > tolerance)

    error = error_of(m)
    begin = jnp.zeros((), jnp.int32), m, h, error, error > tolerance
    _, _, root, error, _ = mesh.while_loop(go_on, step, begin)
    return root, error[:, 0, 0]


def _largest_eigenvalue(a: Array) -> Array:
    """Returns the largest eigenvalue of each matrix, from the longest column of its 64th power."""
    power = a
    for _ in range(6):
        power = _dot(power, power)
        size = jnp.max(jnp.abs(power), axis=(1, 2), keepdims=True)
        power = power / jnp.where(size > 0, size, 1)
    norms = jnp.sum(jnp.abs(power) ** 2, axis=1, keepdims=True)
    v = jnp.take_along_axis(power, jnp.argmax(norms, axis=-1, keepdims=True), axis=-1)
    square = jnp.sum(jnp.abs(v) ** 2, axis=(1, 2), keepdims=True)
    return jnp.sum((v.conj() * _dot(a, v)).real, axis=(1, 2), keepdims=True) / jnp.where(square > 0, square, 1)


def _power(t: Array, p: int, dot: Callable[[Array, Array], Array]) -> Array:
    """Computes T^p by squaring."""
    if p == 1:
        return t
    half = _power(t, p // 2, dot)
    square = dot(half, half)
    return dot(square, t) if p % 2 else square


def _eye(a: Array) -> Array:
    return jnp.eye(a.shape[-1], dtype=a.dtype)[None]


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)
