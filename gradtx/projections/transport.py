"""Transport plans: non-negative matrices with given sums of rows and columns.

    projection_transport   p = max(x + u 1^T + 1 v^T, 0)            nearest in the Euclidean distance
    sinkhorn               p = exp((x + u 1^T + 1 v^T) / epsilon)   nearest to exp(x / epsilon) in relative entropy

Both compute the vectors u and v ("duals") for which the rows of p sum to a and the columns to b. With x = -cost,
`sinkhorn` is optimal transport with entropy `epsilon` (Cuturi, 2013, "Sinkhorn Distances: Lightspeed Computation of
Optimal Transport"), and `projection_transport` of -cost / epsilon solves the same problem with a quadratic penalty.

The Euclidean duals minimize sum max(x + u + v, 0)^2 / 2 - <a, u> - <b, v>, which is convex and piecewise quadratic.
Newton's method with a backtracking search ends at the exact set of positive entries (Mangasarian, 2004, "A Newton
Method for Linear Programming"); before each step it fits u and v in turn. A step solves a linear system with one row
for each row and column of the plan, so use it for plans of hundreds of rows. Both have implicit derivatives.

The file in order: the two functions; the checks; duals; the Euclidean plan; the entropic plan; derivatives of both.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from gradtx import checks, mesh
from gradtx.core.hyper import Limits
from gradtx.projections.simplex import threshold
from gradtx.projections.vector import check, narrowed, number, widened

__all__ = ["projection_transport", "sinkhorn"]


def projection_transport(tree: Any, a: Any = None, b: Any = None) -> Any:
    """Projects matrices onto the transport plans: nonnegative, with given sums of rows and columns.

    A step solves a linear system with an unknown for each row and column, so use it for up to some hundred rows.

    Args:
      tree: The tree to project. Each leaf is an (m, n) matrix or a stack of them in its last two axes. Leaves must
        be real.
      a: The sums of the rows, m numbers. Not negative. None (default) for equal sums, with the total of `b` (or 1).
      b: The sums of the columns, n numbers with the same total. Not negative. None (default) for equal sums, with
        the total of `a` (or 1).

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_transport(jnp.array([[1.0, 0.0], [0.5, 0.0]])))
    [[0.375 0.125]
     [0.125 0.375]]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: a leaf has fewer than two axes, or `a` or `b` does not fit, is negative, or has another total.
    """
    who = "projection_transport"
    leaves = [mesh.whole(widened(x), (-2, -1)) for x in check(who, tree)]
    margins = [_margins(who, tree, i, x, a, b) for i, x in enumerate(leaves)]
    plans = jnp.vectorize(_euclidean_plan, signature="(m,n),(m),(n)->(m,n)")
    new = [plans(x, *margin) if x.size else x for x, margin in zip(leaves, margins, strict=True)]
    return narrowed(new, tree)


def sinkhorn(
    tree: Any,
    a: Any = None,
    b: Any = None,
    epsilon: ArrayLike = 1,
    *,
    tol: float = 1e-10,
    maxiter: int = 10_000,
) -> Any:
    """Computes entropic transport plans by Sinkhorn's iteration.

    The result is the matrix nearest to exp(tree / epsilon) in relative entropy with row sums `a` and column sums
    `b`. With `tree = -cost` this is optimal transport with entropic regularization. Rows and columns are scaled in
    turn, in logarithms, so that nothing overflows.

    Args:
      tree: The tree of scores (minus the costs). Each leaf is an (m, n) matrix or a stack of them in its last two
        axes.
      a: The sums of the rows, m numbers. Not negative. None (default) for equal sums, with the total of `b` (or 1).
      b: The sums of the columns, n numbers with the same total. Not negative. None (default) for equal sums, with
        the total of `a` (or 1).
      epsilon: Strength of the entropy; a smaller one is closer to the optimal plan and takes more iterations.
        Positive; 1 by default.
      tol: Stop when the errors of the row sums are at most this fraction of the total (but at least 8 units of
        rounding). 1e-10 by default.
      maxiter: Stop after this many iterations. At least 1; 10,000 by default.

    Returns:
      A tree like `tree`. Column sums are exact, row sums are within `tol`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.sinkhorn(jnp.zeros((2, 2)), a=jnp.array([0.25, 0.75])))
    [[0.125 0.125]
     [0.375 0.375]]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: as for `projection_transport`, or `epsilon` is not positive.

    References:
      Cuturi, 2013, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport".
    """
    who = "sinkhorn"
    maxiter = checks.integer(who, "maxiter", maxiter, ge=1)
    leaves = [mesh.whole(widened(x), (-2, -1)) for x in check(who, tree)]
    margins = [_margins(who, tree, i, x, a, b) for i, x in enumerate(leaves)]
    epsilon = Limits(gt=0).check(who, "epsilon", epsilon, schedules=False)
    numbers = [number(who, "epsilon", epsilon, x.dtype) for x in leaves]
    plans = jnp.vectorize(partial(_entropic_plan, float(tol), maxiter), signature="(m,n),(m),(n)->(m,n)")
    new = [plans(x / e, *m) if x.size else x for x, m, e in zip(leaves, margins, numbers, strict=True)]
    return narrowed(new, tree)


def _margins(who: str, tree: Any, i: int, x: Array, a: Any, b: Any) -> tuple[Array, Array]:
    """Returns the sums of rows and columns for one leaf; checks them unless they are traced."""
    path = checks.keystr(jax.tree_util.tree_leaves_with_path(tree)[i][0])
    if x.ndim < 2:
        raise ValueError(f"{who}: at {path} the shape is {x.shape}; plans are matrices, in the last two axes.")
    for name, margin, size in (("a", a, x.shape[-2]), ("b", b, x.shape[-1])):
        if margin is not None and np.shape(margin) != (size,):
            raise ValueError(
                f"{who}: {name} has shape {np.shape(margin)}, and the matrices at {path} have shape {x.shape[-2:]}. "
                "Give a an entry for each row, b one for each column."
            )
    known = [np.asarray(m, float) for m in (a, b) if m is not None and not isinstance(m, Tracer)]
    if any((m < 0).any() for m in known):
        raise ValueError(f"{who}: a and b must not be negative: no non-negative matrix has such sums.")
    if len(known) == 2 and not np.isclose(known[0].sum(), known[1].sum(), rtol=100 * float(jnp.finfo(x.dtype).eps)):
        raise ValueError(
            f"{who}: a sums to {known[0].sum():g} and b to {known[1].sum():g}, but both are the sum of all entries of "
            "the matrix. Divide each by its sum."
        )
    given = [None if m is None else jnp.asarray(m).astype(x.dtype) for m in (a, b)]
    total = next((jnp.sum(m) for m in given if m is not None), jnp.ones((), x.dtype))
    rows, columns = (
        jnp.full(size, total / size) if m is None else m for m, size in zip(given, x.shape[-2:], strict=True)
    )
    return rows, columns


class _Duals(NamedTuple):
    u: Array  # one number for each row
    v: Array  # one number for each column

    def added_to(self, x: Array) -> Array:
        return x + self.u[:, None] + self.v[None, :]


def _split(d: Array, a: Array) -> _Duals:
    """Splits one vector of all duals, u first, where u is as long as `a`."""
    return _Duals(*jnp.split(d, [a.size]))


def _sum_errors(p: Array, a: Array, b: Array) -> Array:
    """Returns by how much the sums of rows, then of columns, are too large. This is the gradient of the dual."""
    return jnp.concatenate([jnp.sum(p, axis=1) - a, jnp.sum(p, axis=0) - b])


def _hessian(weights: Array) -> Array:
    """Returns the second derivative of the dual by (u, v).

    `weights` are the derivatives of the plan's entries by x + u + v. In the Euclidean plan they are 1 where the plan is
    positive and 0 elsewhere; in the entropic plan they are the plan itself.
    """
    rows, columns = jnp.sum(weights, axis=1), jnp.sum(weights, axis=0)
    return jnp.block([[jnp.diag(rows), weights], [weights.T, jnp.diag(columns)]])


# --- The Euclidean plan.

_STEPS = 1000


@jax.custom_jvp
def _euclidean_plan(x: Array, a: Array, b: Array) -> Array:
    return _solve_euclidean(x, a, b)[0]


@_euclidean_plan.defjvp
def _euclidean_plan_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    p, positive = _solve_euclidean(*primals)
    return p, _plan_tangent(positive.astype(p.dtype), *tangents)


class _Search(NamedTuple):
    duals: _Duals
    part: Array  # the current problem is the one for part * x
    error: Array  # the largest error of a sum
    steps: Array


@jax.jit
def _solve_euclidean(x: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Returns the plan, and where it is positive.

    Newton's method takes many steps if x is far from the plans. So this solves the problem for part * x with a small
    part first, and raises the part fourfold until it is 1, each time starting from the last duals.
    """
    eps, total = jnp.finfo(x.dtype).eps, jnp.sum(a)
    x = x - jnp.max(x)
    distance = jnp.max(-x)
    enough = 8 * eps * (total + distance)

    def step(s: _Search) -> _Search:
        duals = _newton_step(s.duals, s.part * x, a, b)
        p = jnp.maximum(duals.added_to(s.part * x), 0)
        error = jnp.max(jnp.abs(_sum_errors(p, a, b)))
        next_part = (s.part < 1) & (error <= 1e-3 * total)
        part = jnp.where(next_part, jnp.minimum(4 * s.part, 1), s.part)
        duals = _Duals(*(part / s.part * d for d in duals))  # duals grow about as x does
        return _Search(duals, part, jnp.where(next_part, jnp.inf, error), s.steps + 1)

    def unfinished(s: _Search) -> Array:
        return ((s.error > enough) | (s.part < 1)) & (s.steps < _STEPS)

    part = jnp.minimum(total / jnp.where(distance > 0, distance, 1), 1)
    part = jnp.where(distance > 0, jnp.maximum(part, eps * eps), 1)
    zeros = _Duals(jnp.zeros_like(a), jnp.zeros_like(b))
    start = _Search(zeros, part, jnp.array(jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    duals = mesh.while_loop(unfinished, step, start).duals
    return _corrected(jnp.maximum(duals.added_to(x), 0), a, b)


def _corrected(p: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Corrects the sums of the plan without changing which entries are positive; returns these places, too.

    x + u + v may be a small difference of large numbers, and its rounding leaves errors in the sums.
    """
    positive = p > 0
    inverse = jnp.linalg.pinv(_hessian(positive.astype(p.dtype)), hermitian=True)
    for _ in range(2):
        change = _split(-inverse @ _sum_errors(p, a, b), a)
        p = jnp.where(positive, jnp.maximum(change.added_to(p), 0), 0)
    return p, positive


def _newton_step(duals: _Duals, x: Array, a: Array, b: Array) -> _Duals:
    """Fits u to v and v to u, then takes a Newton step, halved until it is acceptable."""
    u = jax.vmap(_shift_to_sum)(x + duals.v[None, :], a)
    duals = _Duals(u, jax.vmap(_shift_to_sum)((x + u[:, None]).T, b))
    p = jnp.maximum(duals.added_to(x), 0)
    g = _sum_errors(p, a, b)
    direction = -_solve_by_cg((duals.added_to(x) > 0).astype(x.dtype), g)

    def moved(alpha: Array) -> _Duals:
        return _Duals(duals.u + alpha * direction[: a.size], duals.v + alpha * direction[a.size :])

    def objective(duals: _Duals, p: Array) -> Array:
        return jnp.sum(p * p) / 2 - a @ duals.u - b @ duals.v

    here, slope = objective(duals, p), g @ direction

    def too_far(alpha: Array) -> Array:
        there = moved(alpha)
        p_there = jnp.maximum(there.added_to(x), 0)
        g_there = _sum_errors(p_there, a, b)
        decreased = objective(there, p_there) <= here + 1e-4 * alpha * slope
        # Near the solution rounding hides the decrease, while the errors of the sums still show progress.
        halved = jnp.max(jnp.abs(g_there)) <= jnp.max(jnp.abs(g)) / 2
        # Still downhill: the dual is convex along the step, so the step has not passed its minimum.
        not_past_minimum = g_there @ direction <= 0
        return ~(decreased | halved | not_past_minimum) & (alpha > 0)

    return moved(mesh.while_loop(too_far, lambda alpha: jnp.where(alpha > 1e-16, alpha / 2, 0), jnp.ones((), x.dtype)))


def _shift_to_sum(x: Array, total: Array) -> Array:
    """Returns the number to add to a vector so that its positive entries sum to `total`."""
    top = jnp.max(x)
    return -(top + threshold(x - top, total))


class _CG(NamedTuple):
    d: Array
    residual: Array
    direction: Array
    residual_sq: Array  # the residual's square, divided by the diagonal
    steps: Array


def _solve_by_cg(weights: Array, g: Array) -> Array:
    """Solves H d = g with H = `_hessian(weights)`, by conjugate gradients preconditioned with the diagonal of H.

    H is singular: u + c and v - c give the same plan for any number c. So its diagonal is raised a little.
    """
    rows, columns = jnp.sum(weights, axis=1), jnp.sum(weights, axis=0)
    diagonal = jnp.concatenate([rows, columns])
    diagonal = diagonal + jnp.sqrt(jnp.finfo(g.dtype).eps) * jnp.maximum(diagonal, 1)

    def product(d: Array) -> Array:
        u, v = _split(d, rows)
        return diagonal * d + jnp.concatenate([weights @ v, u @ weights])

    def step(s: _CG) -> _CG:
        h_direction = product(s.direction)
        alpha = s.residual_sq / (s.direction @ h_direction)
        d, residual = s.d + alpha * s.direction, s.residual - alpha * h_direction
        residual_sq = residual @ (residual / diagonal)
        direction = residual / diagonal + (residual_sq / s.residual_sq) * s.direction
        return _CG(d, residual, direction, residual_sq, s.steps + 1)

    first = g @ (g / diagonal)
    enough = jnp.finfo(g.dtype).eps ** 1.5 * first

    def unfinished(s: _CG) -> Array:
        return (s.residual_sq > enough) & (s.steps < 4 * g.size)

    start = _CG(jnp.zeros_like(g), g, g / diagonal, first, jnp.zeros((), jnp.int32))
    return mesh.while_loop(unfinished, step, start).d


# --- The entropic plan.


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
@partial(jax.jit, static_argnums=(0, 1))
def _entropic_plan(tol: float, maxiter: int, x: Array, a: Array, b: Array) -> Array:
    return _solve_entropic(tol, maxiter, x, a, b)


@_entropic_plan.defjvp
def _entropic_plan_jvp(
    tol: float, maxiter: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    p = _solve_entropic(tol, maxiter, *primals)
    return p, _plan_tangent(p, *tangents)


def _solve_entropic(tol: float, maxiter: int, x: Array, a: Array, b: Array) -> Array:
    """Fits v to u and u to v in turn (Sinkhorn's iteration), in logarithms so that nothing overflows."""
    x = x - jnp.max(x)
    log_a, log_b = (jnp.where(m > 0, jnp.log(jnp.where(m > 0, m, 1)), -jnp.inf) for m in (a, b))
    enough = max(tol, 8 * float(jnp.finfo(x.dtype).eps)) * jnp.sum(a)

    def fitted_u(v: Array) -> Array:
        return log_a - logsumexp(x + v[None, :], axis=1)

    def step(carry: tuple[_Duals, Array, Array]) -> tuple[_Duals, Array, Array]:
        (u, _), _, steps = carry
        v = log_b - logsumexp(x + u[:, None], axis=0)
        next_u = fitted_u(v)
        some = a > 0  # the sums of these rows are a * exp(u - next_u)
        error = jnp.max(jnp.where(some, a * jnp.abs(jnp.expm1(jnp.where(some, u - next_u, 0))), 0))
        # At the end keep the u that v was fitted to, so that the column sums stay exact.
        return _Duals(jnp.where(error <= enough, u, next_u), v), error, steps + 1

    def unfinished(carry: tuple[_Duals, Array, Array]) -> Array:
        _, error, steps = carry
        return (error > enough) & (steps < maxiter)

    start = _Duals(fitted_u(jnp.zeros_like(b)), jnp.zeros_like(b))
    carry = (start, jnp.array(jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    return jnp.exp(mesh.while_loop(unfinished, step, carry)[0].added_to(x))


# --- Derivatives of both.


def _plan_tangent(weights: Array, dx: Array, da: Array, db: Array) -> Array:
    """Returns weights * (dx + du + dv) with sums da and db; for `weights` see `_hessian`."""
    missing = jnp.concatenate([da - jnp.sum(weights * dx, axis=1), db - jnp.sum(weights * dx, axis=0)])
    inverse = jnp.linalg.pinv(_hessian(weights), hermitian=True)
    return weights * _split(inverse @ missing, da).added_to(dx)
