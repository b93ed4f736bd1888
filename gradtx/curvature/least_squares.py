"""Sums of squares by Levenberg-Marquardt and Gauss-Newton.

The value is 1/2 |r(x)|^2, and a step replaces r by its linear model r + J p, with J = dr/dx:

    Gauss-Newton           p = argmin |J p + r|^2                        x <- x + alpha p,  alpha = 1, 1/2, 1/4, ...
    Levenberg-Marquardt    p = argmin |J p + r|^2 + lambda |D p|^2       x <- x + p

where D_j is the largest norm that column j of J has had. A step is judged by the ratio of the decrease to that of the
model, rho = (|r|^2 - |r_new|^2) / (|r|^2 - |r + J p|^2): it is taken if rho > 1e-4, and

    taken        lambda <- lambda max(1/3, 1 - (2 rho - 1)^3),  nu <- 2
    not taken    lambda <- lambda nu,                           nu <- 2 nu

No normal equations are formed. With the factors J D^-1 = Q R and R = U S V^T, and c = U^T Q^T r, every damping has

    p = -D^-1 V S c / (S^2 + lambda)    and    |c| = the norm of what r has in the range of J.

The point is a minimum when r is orthogonal to the range of J, and what is tested is the cosine of the angle to it:
|c| <= tol |r|. The cosine knows no units, neither those of r nor those of x, and no coordinates of x. Rounding x alone
changes r by about e |D x|, with the machine epsilon e, so that |c| below that counts as zero: so ends a problem whose
residuals vanish.

Levenberg, A method for the solution of certain non-linear problems in least squares, Quarterly of Applied Mathematics
2 (1944). Marquardt, An algorithm for least-squares estimation of nonlinear parameters, SIAM J. 11 (1963). The scaling:
Moré, The Levenberg-Marquardt algorithm: implementation and theory, Lecture Notes in Mathematics 630 (1978). The
damping: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, Technical University of Denmark. The test:
Bates and Watts, A relative offset orthogonality convergence criterion for nonlinear least squares, Technometrics 23
(1981).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.curvature.result import Result, Status

__all__ = ["least_squares"]

_METHODS = ("levenberg_marquardt", "gauss_newton")
_RUNNING = -1
_ENOUGH = 1e-4  # of the model's decrease
_FIRST_DAMPING = 1e-4


def least_squares(
    residual_fn: Callable[[Any], Any],
    x0: Any,
    *,
    method: str = "levenberg_marquardt",
    tol: float | Array = 1e-8,
    maxiter: int = 1000,
    jac: str = "forward",
) -> Result:
    """Minimizes 1/2 sum |r|^2 over the entries of all leaves of `r = residual_fn(params)`.

    The residuals may be complex, the parameters not.
    """
    who = "least_squares"
    checks.choice(who, "method", method, _METHODS)
    checks.choice(who, "jac", jac, ("forward", "reverse"))
    maxiter = checks.integer(who, "maxiter", maxiter, ge=0)
    return _solve(residual_fn, x0, jnp.asarray(tol), maxiter, method, jac)


class _Point(NamedTuple):
    """Parameters, and the linear model of the residuals there."""

    x: Array  # (n,)
    r: Array  # (m,)
    scale: Array  # (n,) the diagonal of D
    s: Array  # (k,) the singular values of J D^-1, k = min(m, n)
    vt: Array  # (k, n)
    c: Array  # (k,)
    grad_norm: Array
    floor: Array  # what rounding x does to r


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _solve(residual_fn: Any, x0: Any, tol: Array, maxiter: Any, method: str, jac: str) -> Result:
    x, restore = _flat(x0)
    dtype = x.dtype
    r0 = _residuals(residual_fn(x0), dtype)
    unit = _unit(r0)

    def residual(x: Array) -> Array:
        return _residuals(residual_fn(restore(x)), dtype) / unit

    jacobian = jax.jacfwd(residual) if jac == "forward" else jax.jacrev(residual)
    eps = jnp.finfo(dtype).eps

    def at(x: Array, r: Array, scale: Array) -> _Point:
        J = jacobian(x)
        norms = _norms(J)
        scale = jnp.maximum(scale, norms)
        D = jnp.where(scale > 0, scale, 1)
        q, R = jnp.linalg.qr(J / D)
        u, s, vt = jnp.linalg.svd(R, full_matrices=False)
        c = u.T @ (q.T @ r)
        return _Point(x, r, scale, s, vt, c, jnp.linalg.norm(r @ J), eps * jnp.linalg.norm(norms * x))

    def small(point: _Point) -> Array:
        kept = point.s > eps * max(point.r.size, point.x.size) * point.s[0]
        c = jnp.linalg.norm(jnp.where(kept, point.c, 0))
        return c <= jnp.maximum(tol * jnp.linalg.norm(point.r), point.floor)

    def body(carry):
        point, lam, nu, steps, status = carry
        D = jnp.where(point.scale > 0, point.scale, 1)
        s, c = point.s, point.c
        kept = point.s > eps * max(point.r.size, point.x.size) * point.s[0]
        denom = s * s + lam
        if method == "gauss_newton":
            f = jnp.where(kept, 1 / jnp.where(kept, s, 1), 0) * lam
            pred = jnp.sum(jnp.where(kept, c * c, 0)) * lam * (2 - lam) / 2
        else:
            f = s / denom
            pred = jnp.sum((c * s / denom) ** 2 * (s * s + 2 * lam)) / 2
        p = -(point.vt.T @ (f * c)) / D
        x = point.x + p
        r = residual(x)
        actual = -jnp.sum((r - point.r) * (r + point.r)) / 2
        ratio = actual / pred
        good = jnp.isfinite(actual) & (ratio > _ENOUGH)
        new = lax.cond(good, lambda: at(x, r, point.scale), lambda: point)
        good &= tree.finite(new)
        stuck = ~good & (
            (jnp.linalg.norm(D * p) <= eps * jnp.linalg.norm(D * point.x)) | jnp.all(x == point.x) | ~jnp.isfinite(lam)
        )
        point = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, point)
        if method == "gauss_newton":
            lam = jnp.where(good, 1.0, lam / 2)
        else:
            lam = jnp.where(good, lam * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), lam * nu)
            nu = jnp.where(good, 2.0, 2 * nu)
        status = jnp.where(good & small(point), int(Status.converged), status)
        status = jnp.where(
            stuck, jnp.where(jnp.isfinite(actual), int(Status.stalled), int(Status.not_finite)), status
        )
        return point, lam, nu, steps + 1, status

    point = at(x, r0 / unit, jnp.zeros_like(x))
    status = jnp.where(
        tree.finite(point), jnp.where(small(point), int(Status.converged), _RUNNING), int(Status.not_finite)
    )
    lam = jnp.asarray(1.0 if method == "gauss_newton" else _FIRST_DAMPING, dtype)
    carry = (point, lam, jnp.asarray(2.0, dtype), jnp.int32(0), status.astype("int32"))
    point, lam, nu, steps, status = lax.while_loop(lambda c: (c[4] < 0) & (c[3] < maxiter), body, carry)
    status = jnp.where(status < 0, int(Status.maxiter), status)
    value = jnp.sum(point.r**2) / 2 * unit * unit
    return Result(restore(point.x), value, point.grad_norm * unit * unit, steps, steps + 1, status)


def _norms(J: Array) -> Array:
    largest = jnp.max(jnp.abs(J), axis=0)
    divisor = jnp.where(largest > 0, largest, 1)
    return divisor * jnp.linalg.norm(J / divisor, axis=0) * (largest > 0)


def _unit(r: Array) -> Array:
    """A power of two near the norm of r."""
    norm = tree.norm(r)
    norm = jnp.where((norm > 0) & jnp.isfinite(norm), norm, 1)
    return jnp.ldexp(jnp.ones((), r.dtype), jnp.frexp(norm)[1])


def _residuals(r: Any, dtype: Any) -> Array:
    parts = []
    for x in map(jnp.asarray, jax.tree.leaves(r)):
        parts += [x.real.ravel(), x.imag.ravel()] if jnp.iscomplexobj(x) else [x.ravel()]
    return jnp.concatenate([part.astype(dtype) for part in parts])


def _flat(x0: Any) -> tuple[Array, Callable[[Array], Any]]:
    leaves, treedef = jax.tree.flatten(x0)
    leaves = [jnp.asarray(x) for x in leaves]
    dtype = functools.reduce(jnp.promote_types, [x.dtype for x in leaves], np.dtype("float32"))
    cuts = np.cumsum([math.prod(x.shape) for x in leaves])[:-1]

    def restore(flat: Array) -> Any:
        parts = jnp.split(flat, cuts)
        return jax.tree.unflatten(
            treedef, [p.reshape(x.shape).astype(x.dtype) for p, x in zip(parts, leaves, strict=True)]
        )

    return jnp.concatenate([x.ravel().astype(dtype) for x in leaves]), restore
