"""Least squares by Levenberg-Marquardt and Gauss-Newton.

The value is 1/2 |r(x)|^2, and a step comes from the linear model r + J p, with J = dr/dx:

    Gauss-Newton           p = argmin |J p + r|^2                       x <- x + alpha p,  alpha = 1, 1/2, 1/4, ...
    Levenberg-Marquardt    p = argmin |J p + r|^2 + lambda |D p|^2      x <- x + p + a

D_j is the largest norm that column j of J has had, multiplied by 0.7 after every step, so that the units of x do
not matter. The geodesic acceleration `a` bends the step along the curve of the residuals. With r_pp, their second
derivative along p,

    a = argmin |J a + r_pp / 2|^2 + lambda |D a|^2

A step is judged by its decrease relative to that of the model, rho = (|r|^2 - |r_new|^2) / (|r|^2 - |r + J p|^2).
It is taken if rho > 1e-4 and the bend is not too sharp, 2 |D a| <= 3/4 |D p|. Then

    taken        lambda <- lambda max(1/3, 1 - (2 rho - 1)^3), or lambda / 100 if |rho - 1| < 1/100;  nu <- 2
    not taken    lambda <- lambda nu;  nu <- 2 nu

The normal equations are never formed. With the factors J D^-1 = U S V^T and c = U^T r, the step for any damping is

    p = -D^-1 V S c / (S^2 + lambda),    and |c| is the norm of the part of r in the range of J.

At a minimum r is orthogonal to the range of J, so the test for convergence is the cosine of the angle between them:
|c| <= tol |r|. The cosine depends neither on the units of r and x nor on the coordinates of x. Rounding x and r
changes r by about f = 4 e (|D x| + |r|), with the machine epsilon e. |c| below f counts as zero, which ends
problems whose residuals vanish. If rounding hides the decrease, at |r| f, a step is judged by |c| instead of the
value.

Levenberg, A method for the solution of certain non-linear problems in least squares, Quarterly of Applied
Mathematics 2 (1944). Marquardt, An algorithm for least-squares estimation of nonlinear parameters, SIAM J. 11
(1963). The scaling: Moré, The Levenberg-Marquardt algorithm: implementation and theory, Lecture Notes in
Mathematics 630 (1978). The damping: Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05, Technical
University of Denmark. The acceleration: Transtrum and Sethna, Improvements to the Levenberg-Marquardt algorithm for
nonlinear least-squares minimization, arXiv:1201.5885. The test: Bates and Watts, A relative offset orthogonality
convergence criterion for nonlinear least squares, Technometrics 23 (1981).
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
_ENOUGH = 1e-4  # the fraction of the predicted decrease that is required
_FADING = 0.7  # factor of the scale from one point to the next
_SHARPEST = 0.75  # largest bend of a step
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
    """Fits parameters: minimizes half the sum of squares of all entries of `residual_fn(params)`.

    Use it for curve fitting and other problems with up to some thousand parameters or residuals. It converges much
    faster than `minimize` on such problems, because it uses the Jacobian J of the residuals r:

        p = argmin |J p + r|^2 + damping * |D p|^2        a step of Levenberg-Marquardt; Gauss-Newton has damping 0

    Memory and time are those of a dense Jacobian. The loop is jitted as a whole and works under `jit` and `vmap`;
    each new `residual_fn` is compiled again. Everything is computed in the widest dtype of the parameters, at least
    float32.

    Args:
      residual_fn: A function of the parameters that returns a tree of arrays, real or complex: model minus data.
      x0: The parameters to start from, a tree of real floating-point arrays of any shapes.
      method: "levenberg_marquardt" (default), which also works far from the solution, or "gauss_newton", whose
        steps are halved until the value decreases. If J does not have full rank, both take the shortest of the best
        steps.
      tol: Stop when the cosine of the angle between the residuals and the range of the Jacobian is at most this, or
        as small as rounding allows. It does not depend on the units of parameters and residuals. In [0, 1); 1e-8 by
        default.
      maxiter: Stop after this many steps, counting steps that were tried and rejected. Not negative; 1000 by
        default.
      jac: How the Jacobian is computed. "forward" (default) takes one product per parameter. "reverse" takes one
        product per residual: choose it for fewer residuals than parameters, or for functions without a forward
        derivative.
      geodesic: Whether Levenberg-Marquardt adds a second-order correction to its steps, which costs one second
        derivative per step and usually saves steps. True by default; has no effect with `jac="reverse"`.

    Returns:
      A `Result` with the last accepted point, which up to rounding is the best one seen. Its status is `converged`,
      `maxiter`, `stalled` (Levenberg-Marquardt finds no better point nearby), `linesearch_failed` (Gauss-Newton
      finds none), or `not_finite` (residuals or Jacobian are not finite at `x0` or at every step tried from the
      last point).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> t = jnp.array([0.0, 1.0, 2.0, 3.0])
    >>> y = jnp.array([2.0, 1.2, 0.7, 0.45])
    >>> result = gx.least_squares(lambda p: p["size"] * jnp.exp(-p["rate"] * t) - y, {"size": 1.0, "rate": 0.0})
    >>> print(f"{result.params['size']:.3f} {result.params['rate']:.3f}")
    1.998 0.511
    >>> result.message
    'Converged: the gradient is within the tolerance.'

    Raises:
      TypeError: the parameters are complex or not floating-point arrays, or `residual_fn` is not a function.
      ValueError: there are no parameters or no residuals, or an option is out of its range.
    """
    maxiter = _check(residual_fn, x0, method, tol, maxiter, jac)
    return _solve(residual_fn, x0, tol, maxiter, method == "gauss_newton", jac, geodesic and jac == "forward")


def _check(residual_fn: Any, x0: Any, method: str, tol: Any, maxiter: Any, jac: str) -> int:
    """Returns `maxiter` as an int; raises for arguments that `least_squares` cannot handle."""
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
        raise ValueError(
            f"{who}: x0 has no entries, so there is nothing to fit. Give at least one array that is not empty."
        )
    shapes = jax.tree.leaves(jax.eval_shape(residual_fn, x0))
    if not tree.size(shapes):
        raise ValueError(f"{who}: residual_fn returns no entries. Let it return an array of model minus data.")
    return maxiter


class _Point(NamedTuple):
    """The parameters and the linear model of the residuals there; k = min(number of residuals, number of
    parameters).
    """

    x: Array  # (n,)
    r: Array  # (m,)
    scale: Array  # (n,) the diagonal of D
    u: Array  # (m, k)
    s: Array  # (k,) the singular values of J D^-1, in descending order
    vt: Array  # (k, n)
    c: Array  # (k,) zero where s is zero up to rounding
    cosine: Array
    smallest: Array  # the smallest cosine that rounding allows
    grad_norm: Array


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _solve(residual_fn: Any, x0: Any, tol: Any, maxiter: Any, newton: bool, jac: str, geodesic: bool) -> Result:
    x0 = mesh.varying_with(residual_fn, x0)
    x, restore = tree.raveled(x0)
    tol = jnp.asarray(tol, x.dtype)
    r = _stacked(residual_fn(x0), x.dtype)
    unit = _power_of_two(tree.norm(r))  # divides the residuals, so that no square overflows or underflows

    def residual(x: Array) -> Array:
        return _stacked(residual_fn(restore(x)), x.dtype) / unit

    jacobian = (jax.jacfwd if jac == "forward" else jax.jacrev)(residual)
    propose = _gauss_newton if newton else functools.partial(_levenberg_marquardt, residual if geodesic else None)

    def body(carry: tuple[_Point, Array, Array, Array, Array]) -> tuple[_Point, Array, Array, Array, Array]:
        point, control, growth, steps, status = carry
        p, decrease, straight = propose(point, control)
        x = point.x + p
        r = residual(x)
        actual = -jnp.sum((r - point.r) * (r + point.r)) / 2  # more accurate than the difference of two values
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
    """Returns the step, the decrease that the model predicts, and that the step is not bent too sharply."""
    p = _divided(-alpha * point.c / jnp.where(point.s > 0, point.s, 1), point)
    return p, alpha * (2 - alpha) / 2 * jnp.sum(point.c**2), jnp.array(True)


def _levenberg_marquardt(residual: Any, point: _Point, damping: Array) -> tuple[Array, Array, Array]:
    """Returns the same; `residual` is the function for the geodesic acceleration, or None to do without."""
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
    """Converts coordinates with respect to the right singular vectors to a vector of parameters."""
    return (coordinates @ point.vt) / point.scale


def _relief(ratio: Array) -> Array:
    """Returns the factor of the damping after an accepted step."""
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
    """Returns a power of two near a norm; 1 if the norm is zero or not finite."""
    norm = jnp.where((norm > 0) & jnp.isfinite(norm), norm, 1)
    return jnp.ldexp(jnp.ones_like(norm), jnp.frexp(norm)[1] - 1)


def _stacked(residuals: Any, dtype: Any) -> Array:
    """Concatenates all residuals to one real vector; a complex residual becomes two entries."""
    parts: list[Array] = []
    for x in map(mesh.whole, map(jnp.asarray, jax.tree.leaves(residuals))):
        parts += [x.real, x.imag] if jnp.iscomplexobj(x) else [x]
    return jnp.concatenate([part.ravel().astype(dtype) for part in parts])
