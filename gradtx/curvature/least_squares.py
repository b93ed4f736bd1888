"""Sums of squares by Levenberg-Marquardt and Gauss-Newton.

The value is 1/2 |r(x)|^2, and a step comes from the linear model r + J p, with J = dr/dx:

    Gauss-Newton           p = argmin |J p + r|^2                       x <- x + alpha p,  alpha = 1, 1/2, 1/4, ...
    Levenberg-Marquardt    p = argmin |J p + r|^2 + lambda |D p|^2      x <- x + p + a

D_j is the largest norm that column j of J has had, where each step fades it to 7/10, so that no unit of x matters. The
geodesic acceleration a bends the step along the curve of the residuals: with r_pp their second derivative along p,

    a = argmin |J a + r_pp / 2|^2 + lambda |D a|^2

A step is judged by the ratio of the decrease to that of the model, rho = (|r|^2 - |r_new|^2) / (|r|^2 - |r + J p|^2).
It is taken if rho > 1e-4 and the bend is not too sharp, 2 |D a| <= 3/4 |D p|; then

    taken        lambda <- lambda max(1/3, 1 - (2 rho - 1)^3), or lambda / 100 if |rho - 1| < 1/100;  nu <- 2
    not taken    lambda <- lambda nu;  nu <- 2 nu

No normal equations are formed. With the factors J D^-1 = U S V^T and c = U^T r, every damping has

    p = -D^-1 V S c / (S^2 + lambda),    and |c| is the norm of what r has in the range of J.

At a minimum r is orthogonal to the range of J, and what is tested is the cosine of the angle between them: |c| <= tol
|r|. The cosine knows no units, neither those of r nor those of x, and no coordinates of x. Rounding x and r changes r
by about f = 4 e (|D x| + |r|), with the machine epsilon e, and |c| below that counts as zero: so ends a problem whose
residuals vanish. Where rounding hides the decrease, at |r| f, a step is judged by |c| in place of the value.

Levenberg, A method for the solution of certain non-linear problems in least squares, Quarterly of Applied Mathematics
2 (1944). Marquardt, An algorithm for least-squares estimation of nonlinear parameters, SIAM J. 11 (1963). The scaling:
Moré, The Levenberg-Marquardt algorithm: implementation and theory, Lecture Notes in Mathematics 630 (1978). The
damping: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, Technical University of Denmark. The
acceleration: Transtrum and Sethna, Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares
minimization, arXiv:1201.5885. The test: Bates and Watts, A relative offset orthogonality convergence criterion for
nonlinear least squares, Technometrics 23 (1981).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf, mesh, tree
from gradtx.curvature.result import Result, Status

__all__ = ["least_squares"]

_RUNNING = -1
_ENOUGH = 1e-4  # of the model's decrease
_FADING = 0.7  # of the scale, from one point to the next
_SHARPEST = 0.75  # bend of a step
_FIRST_DAMPING = 1e-4


def least_squares(
    residual_fn: Callable[[Any], Any],
    x0: Any,
    *,
    method: str = "levenberg_marquardt",
    tol: ArrayLike = 1e-8,
    maxiter: int = 1000,
    jac: str = "forward",
    geodesic: bool = True,
) -> Result:
    """Minimizes half the sum of squares of all entries of `residual_fn(params)`, from the parameters `x0`.

    `residual_fn` takes a tree like `x0`, real floating arrays of any shapes, and returns a tree of arrays, real or
    complex. Everything is computed in the widest dtype of the parameters, float32 at least.

    - `method`: "levenberg_marquardt", or "gauss_newton" with steps halved until the value decreases. Both take the
      shortest of all steps that are equally good, if the Jacobian has not full rank.
    - `tol`: the cosine of the angle between the residuals and the range of the Jacobian, 0 <= tol < 1; or as small as
      rounding lets it be.
    - `maxiter`: the largest number of steps, counting those tried in vain.
    - `jac`: the Jacobian by "forward" derivatives, one product for each parameter, or by "reverse" derivatives, one for
      each residual: for fewer residuals than parameters, and for functions that have no forward derivative.
    - `geodesic`: whether Levenberg-Marquardt bends its steps, for one second derivative each; not with "reverse".

    The `Result` has the last point that was accepted, which to rounding is the best one seen. Its `status` is
    `converged` if the test by `tol` holds, `maxiter`, `stalled` if Levenberg-Marquardt finds no better point at a
    distance that changes the parameters, `linesearch_failed` if Gauss-Newton does not, and `not_finite` if residuals or
    Jacobian are not at `x0`, or not at any step from the last point; other such steps are shortened.

    Memory and time are those of a dense Jacobian. The loop is jitted whole, and works under `jit` and `vmap`; a new
    `residual_fn` is compiled anew.

    Raises a TypeError for parameters that are complex or no floating arrays, and a ValueError for those without an
    entry and for options out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> t = jnp.array([0.0, 1.0, 2.0, 3.0])
    >>> y = jnp.array([2.0, 1.2, 0.7, 0.45])
    >>> result = gx.least_squares(lambda p: p["size"] * jnp.exp(-p["rate"] * t) - y, {"size": 1.0, "rate": 0.0})
    >>> print(f"{result.params['size']:.3f} {result.params['rate']:.3f}")
    1.998 0.511
    >>> result.message
    'The gradient is as small as was asked for.'
    """
    maxiter = _check(residual_fn, x0, method, tol, maxiter, jac)
    return _solve(residual_fn, x0, tol, maxiter, method == "gauss_newton", jac, geodesic and jac == "forward")


def _check(residual_fn: Any, x0: Any, method: str, tol: Any, maxiter: Any, jac: str) -> int:
    """`maxiter` as an int; raises for what `least_squares` cannot take."""
    who = "least_squares"
    if not callable(residual_fn):
        raise TypeError(f"{who}: residual_fn must be a function of the parameters, got {checks.shown(residual_fn)}.")
    checks.choice(who, "method", method, ("levenberg_marquardt", "gauss_newton"))
    checks.choice(who, "jac", jac, ("forward", "reverse"))
    maxiter = checks.integer(who, "maxiter", maxiter, ge=0)
    if leaf.is_number(tol) and not 0 <= tol < 1:
        raise ValueError(f"{who}: tol is the cosine of an angle and must be in [0, 1), got {tol}.")
    leaves = jax.tree.leaves(x0)
    checks.floating(who, "x0", x0, leaves)
    checks.real(who, "x0", x0, leaves)
    if not tree.size(x0):
        raise ValueError(f"{who}: x0 has no entry, so there is nothing to fit. Give it an array that is not empty.")
    shapes = jax.tree.leaves(jax.eval_shape(residual_fn, x0))
    if not tree.size(shapes):
        raise ValueError(f"{who}: residual_fn returns no entry. Let it return the array of what shall be zero.")
    return maxiter


class _Point(NamedTuple):
    """Parameters, and the linear model of the residuals there; k = min(residuals, parameters)."""

    x: Array  # (n,)
    r: Array  # (m,)
    scale: Array  # (n,) the diagonal of D
    u: Array  # (m, k)
    s: Array  # (k,) the singular values of J D^-1, in descending order
    vt: Array  # (k, n)
    c: Array  # (k,) zero where s is zero to rounding
    cosine: Array
    smallest: Array  # cosine that rounding lets be
    grad_norm: Array


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _solve(residual_fn: Any, x0: Any, tol: Any, maxiter: Any, newton: bool, jac: str, geodesic: bool) -> Result:
    x0 = mesh.varying_with(residual_fn, x0)
    x, restore = tree.raveled(x0)
    tol = jnp.asarray(tol, x.dtype)
    r = _stacked(residual_fn(x0), x.dtype)
    unit = _power_of_two(tree.norm(r))  # of the residuals, so that no square overflows or underflows

    def residual(x: Array) -> Array:
        return _stacked(residual_fn(restore(x)), x.dtype) / unit

    jacobian = (jax.jacfwd if jac == "forward" else jax.jacrev)(residual)
    propose = _gauss_newton if newton else functools.partial(_levenberg_marquardt, residual if geodesic else None)

    def body(carry: tuple[_Point, Array, Array, Array, Array]) -> tuple[_Point, Array, Array, Array, Array]:
        point, control, growth, steps, status = carry
        p, decrease, straight = propose(point, control)
        x = point.x + p
        r = residual(x)
        actual = -jnp.sum((r - point.r) * (r + point.r)) / 2  # more digits than the difference of two values
        finite = jnp.isfinite(actual)
        ratio = actual / decrease
        hidden = jnp.maximum(abs(actual), decrease) <= point.smallest * jnp.sum(point.r**2)
        good = finite & straight & (hidden | (ratio > _ENOUGH))
        new = mesh.cond(good, lambda: _linearized(jacobian, x, r, _FADING * point.scale), lambda: point)
        finite &= tree.finite(new)
        good &= finite & (~hidden | (new.cosine < 0.9 * point.cosine))
        ratio = jnp.where(hidden, 1, ratio)
        if newton:
            control = jnp.where(good, 1, control / 2)
        else:
            control *= jnp.where(good, _relief(ratio), growth)
            growth = jnp.where(good, 2, 2 * growth)
        still = jnp.linalg.norm(point.scale * p) <= jnp.finfo(x.dtype).eps * jnp.linalg.norm(point.scale * point.x)
        stuck = ~good & (still | jnp.all(x == point.x))
        why = Status.linesearch_failed if newton else Status.stalled
        status = jnp.where(stuck, jnp.where(finite, why, Status.not_finite), status)
        status = jnp.where(good & _converged(new, tol), Status.converged, status).astype("int32")
        point = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, point)
        return point, control, growth, steps + 1, status

    point = _linearized(jacobian, x, r / unit, jnp.zeros_like(x))
    status = jnp.where(_converged(point, tol), Status.converged, _RUNNING)
    status = jnp.where(tree.finite(point), status, Status.not_finite).astype("int32")
    control = jnp.asarray(1 if newton else _FIRST_DAMPING, x.dtype)
    carry = (point, control, jnp.asarray(2, x.dtype), jnp.int32(0), status)
    point, _, _, steps, status = mesh.while_loop(lambda c: (c[4] == _RUNNING) & (c[3] < maxiter), body, carry)
    status = jnp.where(status == _RUNNING, Status.maxiter, status).astype("int32")
    value, grad_norm = jnp.sum(point.r**2) / 2 * unit * unit, point.grad_norm * unit * unit
    return Result(restore(point.x), value, grad_norm, steps, steps + 1, status)


def _gauss_newton(point: _Point, alpha: Array) -> tuple[Array, Array, Array]:
    """The step, by how much the model decreases, and that the step is straight enough."""
    p = _divided(-alpha * point.c / jnp.where(point.s > 0, point.s, 1), point)
    return p, alpha * (2 - alpha) / 2 * jnp.sum(point.c**2), jnp.array(True)


def _levenberg_marquardt(residual: Any, point: _Point, damping: Array) -> tuple[Array, Array, Array]:
    """The same; `residual` is that of the geodesic acceleration, or None."""
    s, c = point.s, point.c
    factor = s / (s * s + damping)
    p = _divided(-factor * c, point)
    decrease = jnp.sum((factor * c) ** 2 * (s * s / 2 + damping))
    if residual is None:
        return p, decrease, jnp.array(True)
    _, bend = jax.jvp(lambda x: jax.jvp(residual, (x,), (p,))[1], (point.x,), (p,))
    a = _divided(-factor * (point.u.T @ bend) / 2, point)
    known = tree.finite(a)
    straight = 2 * jnp.linalg.norm(point.scale * a) <= _SHARPEST * jnp.linalg.norm(point.scale * p)
    return jnp.where(known, p + a, p), decrease, straight | ~known


def _divided(coordinates: Array, point: _Point) -> Array:
    """A vector of the parameters, from its coordinates in the right singular vectors."""
    return (coordinates @ point.vt) / point.scale


def _relief(ratio: Array) -> Array:
    """What the damping is multiplied by after a step that was taken."""
    return jnp.where(abs(ratio - 1) < 0.01, 0.01, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3))


def _linearized(jacobian: Callable[[Array], Array], x: Array, r: Array, scale: Array) -> _Point:
    jac = jacobian(x)
    norms = _column_norms(jac)
    scale = jnp.maximum(scale, norms)
    scale = jnp.where(scale > 0, scale, 1)
    q, upper = jnp.linalg.qr(jac / scale[None])
    u, s, vt = jnp.linalg.svd(upper, full_matrices=False)
    u = q @ u
    eps = jnp.finfo(x.dtype).eps
    s = jnp.where(s > eps * max(jac.shape) * s[0], s, 0)
    c = jnp.where(s > 0, r @ u, 0)
    norm = jnp.linalg.norm(r)
    divisor = jnp.where(norm > 0, norm, 1)
    smallest = 4 * eps * (jnp.linalg.norm(norms * x) + norm) / divisor
    return _Point(x, r, scale, u, s, vt, c, jnp.linalg.norm(c) / divisor, smallest, jnp.linalg.norm(r @ jac))


def _converged(point: _Point, tol: Array) -> Array:
    return point.cosine <= jnp.maximum(tol, point.smallest)


def _column_norms(jac: Array) -> Array:
    largest = jnp.max(abs(jac), axis=0)
    divisor = jnp.where(largest > 0, largest, 1)
    return divisor * jnp.linalg.norm(jac / divisor[None], axis=0)


def _power_of_two(norm: Array) -> Array:
    """A power of two near a norm that is neither zero nor infinite; else 1."""
    norm = jnp.where((norm > 0) & jnp.isfinite(norm), norm, 1)
    return jnp.ldexp(jnp.ones_like(norm), jnp.frexp(norm)[1] - 1)


def _stacked(residuals: Any, dtype: Any) -> Array:
    """All residuals as one vector; a complex one is two."""
    parts = []
    for x in map(mesh.whole, map(jnp.asarray, jax.tree.leaves(residuals))):
        parts += [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return jnp.concatenate([part.ravel().astype(dtype) for part in parts])
