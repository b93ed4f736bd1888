"""Functions of eigenvalues and singular values, with derivatives that are correct for repeated values.

For X = Q diag(w) Q^H and F(X) = Q diag(f(w)) Q^H, with D = Q^H dX Q,

    dF = Q (K o D) Q^H,       K_ij = (f(w_i) - f(w_j)) / (w_i - w_j),  f'(w_i) if they are equal

(Daleckii and Krein, 1965). For X = U diag(s) V^H, F(X) = U diag(f(s)) V^H and D = U^H dX V,

    dF = U (K- o (D + D^H) / 2 + K+ o (D - D^H) / 2) V^H
         + (dX V - U D) diag(f(s) / s) V^H + U diag(f(s) / s) (U^H dX - D V^H)

    K-_ij = (f(s_i) - f(s_j)) / (s_i - s_j),      K+_ij = (f(s_i) + f(s_j)) / (s_i + s_j)

(Noferini, 2017, "A formula for the Frechet derivative of a generalized matrix function"). The quotients here are
written without differences of nearby numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

__all__ = ["Quotients", "adjoint", "differences", "positive_part", "singular_map", "sums"]


def adjoint(x: Array) -> Array:
    """Returns the conjugate transpose of the last two axes."""
    return jnp.swapaxes(x, -1, -2).conj()


def _dot(*factors: Array) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = jnp.matmul(product, factor, precision=lax.Precision.HIGHEST)
    return product


@jax.custom_jvp
def positive_part(x: Array) -> Array:
    """Returns Hermitian matrices (..., n, n) with 0 in place of negative eigenvalues."""
    w, q = jnp.linalg.eigh(x)
    unchanged = jnp.all(w >= 0, axis=-1)[..., None, None]
    return jnp.where(unchanged, x, _dot(q * jnp.maximum(w, 0)[..., None, :], adjoint(q)))


@positive_part.defjvp
def _positive_part_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    w, q = jnp.linalg.eigh(x)
    inner = differences(w) * _dot(adjoint(q), dx, q)
    return positive_part(x), _dot(q, inner, adjoint(q))


def differences(a: Array) -> Array:
    """Returns (max(a_i, 0) - max(a_j, 0)) / (a_i - a_j) for vectors (..., n); 0 if both are 0."""
    positive = jnp.maximum(a, 0)
    total = jnp.abs(a)[..., :, None] + jnp.abs(a)[..., None, :]
    some = total > 0
    return jnp.where(some, (positive[..., :, None] + positive[..., None, :]) / jnp.where(some, total, 1), 0)


def sums(values: Array, s: Array, at_zero: Array | float, least: Array | float = 0) -> Array:
    """Returns (f_i + f_j) / (s_i + s_j) for vectors (..., n); `at_zero` where s_i + s_j is at most `least`."""
    total = s[..., :, None] + s[..., None, :]
    some = total > least
    ratio = (values[..., :, None] + values[..., None, :]) / jnp.where(some, total, 1)
    return jnp.where(some, ratio, at_zero)


class Quotients(NamedTuple):
    """K- and K+ of a function of singular values, and the change of f(s) with the function's numbers.

    `shift(ds, dlevel)` is the part of the change of f(s) that K- does not contain, because the numbers change.
    """

    minus: Array
    plus: Array
    shift: Callable[[Array, Array], Array]


Rule = Callable[[Array, Array], tuple[Array, Callable[[], Quotients]]]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def singular_map(rule: Rule, x: Array, level: Array) -> Array:
    """Returns matrices (..., m, n) with f(s) in place of their singular values s.

    `rule(s, level)` returns the values, and a function without arguments that returns their quotients.
    """
    return _mapped(rule, x, level)[0]


def _mapped(rule: Rule, x: Array, level: Array) -> tuple[Array, Any, tuple[Array, Array]]:
    u, s, vh = jnp.linalg.svd(x, full_matrices=False)
    values, quotients = rule(s, level)
    unchanged = jnp.all(values == s, axis=-1)[..., None, None]
    return jnp.where(unchanged, x, _dot(u * values[..., None, :], vh)), quotients, (u, vh)


@singular_map.defjvp
def _singular_map_jvp(rule: Rule, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    dx, dlevel = tangents
    y, quotients, (u, vh) = _mapped(rule, *primals)
    minus, plus, shift = quotients()
    uh, v = adjoint(u), adjoint(vh)
    d = _dot(uh, dx, v)
    inner = minus * (d + adjoint(d)) / 2 + plus * (d - adjoint(d)) / 2
    diagonal = jnp.diagonal(d, axis1=-2, axis2=-1).real
    moved = shift(diagonal, dlevel).astype(inner.dtype)[..., None, :]
    edge = jnp.diagonal(plus, axis1=-2, axis2=-1)
    dy = _dot(u, inner, vh) + _dot(u * moved, vh)
    dy = dy + _dot((_dot(dx, v) - _dot(u, d)) * edge[..., None, :], vh)
    return y, dy + _dot(u * edge[..., None, :], _dot(uh, dx) - _dot(d, vh))
