"""Transport plans: non-negative matrices with given sums of rows and columns.

    projection_transport   p = max(x + u 1^T + 1 v^T, 0)            nearest in the Euclidean distance
    sinkhorn               p = exp((x + u 1^T + 1 v^T) / epsilon)   nearest to exp(x / epsilon) in relative entropy

with the u and v that give the sums a and b. With x = -cost, `sinkhorn` is optimal transport with entropy `epsilon`
(Cuturi, 2013, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport"), and `projection_transport` of
-cost / epsilon is that with a quadratic penalty.

The Euclidean multipliers minimize sum max(x + u + v, 0)^2 / 2 - <a, u> - <b, v>, which is convex and piecewise
quadratic. Newton's method with a search along the step, and with a pass over rows and columns before each step, ends at
the exact set of positive entries (Mangasarian, 2004, "A Newton Method for Linear Programming"). A step solves a system
with a row for each row and column: this is for plans of hundreds of rows. Derivatives of both are implicit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.core.hyper import Limits
from gradtx.projections.simplex import threshold
from gradtx.projections.vector import check, narrowed, number, widened

__all__ = ["projection_transport", "sinkhorn"]

_STEPS = 1000


def projection_transport(tree: Any, a: Any = None, b: Any = None) -> Any:
    """The nearest non-negative matrices whose rows sum to `a` and whose columns sum to `b`.

    A leaf is a stack of matrices (m, n) in its last two axes; `a` has m and `b` has n entries, not negative and with
    the same sum. None stands for equal entries: with sum 1, or with the sum of the other.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_transport(jnp.array([[1.0, 0.0], [0.5, 0.0]])))
    [[0.375 0.125]
     [0.125 0.375]]

    Raises:
      TypeError: a leaf is complex or no floating array.
      ValueError: a leaf has less than two axes, or `a` or `b` does not fit, is negative, or has another sum.
    """
    who = "projection_transport"
    leaves = [widened(x) for x in check(who, tree)]
    margins = [_margins(who, tree, i, x, a, b) for i, x in enumerate(leaves)]
    plan = jnp.vectorize(_plan, signature="(m,n),(m),(n)->(m,n)")
    new = [plan(x, *margin) if x.size else x for x, margin in zip(leaves, margins, strict=True)]
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
    """The matrices nearest to exp(tree / epsilon) in relative entropy whose rows sum to `a` and columns to `b`.

    Arguments are those of `projection_transport`. Rows and columns are scaled in turn, by logarithms, until the rows'
    sums are right to `tol` times the total (at least 8 roundings), or `maxiter` times; the columns' are exact.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.sinkhorn(jnp.zeros((2, 2)), a=jnp.array([0.25, 0.75])))
    [[0.125 0.125]
     [0.375 0.375]]

    Raises:
      TypeError: a leaf is complex or no floating array.
      ValueError: as for `projection_transport`, or `epsilon` is not positive.
    """
    who = "sinkhorn"
    maxiter = checks.integer(who, "maxiter", maxiter, ge=1)
    leaves = [widened(x) for x in check(who, tree)]
    margins = [_margins(who, tree, i, x, a, b) for i, x in enumerate(leaves)]
    epsilon = Limits(gt=0).check(who, "epsilon", epsilon, schedules=False)
    numbers = [number(who, "epsilon", epsilon, x.dtype) for x in leaves]

    def plan(x: Array, a: Array, b: Array) -> Array:
        return _scaled(float(tol), maxiter, x, a, b)

    plans = jnp.vectorize(plan, signature="(m,n),(m),(n)->(m,n)")
    new = [plans(x / e, *m) if x.size else x for x, m, e in zip(leaves, margins, numbers, strict=True)]
    return narrowed(new, tree)


def _margins(who: str, tree: Any, i: int, x: Array, a: Any, b: Any) -> tuple[Array, Array]:
    """The sums of rows and columns for a leaf, checked as far as they are known."""
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
    u: Array
    v: Array

    def value(self, x: Array) -> Array:
        return x + self.u[:, None] + self.v[None, :]


def _hessian(above: Array) -> Array:
    """The second derivative of the dual by (u, v), from the places of the positive entries."""
    rows, columns = jnp.sum(above, axis=1), jnp.sum(above, axis=0)
    return jnp.block([[jnp.diag(rows), above], [above.T, jnp.diag(columns)]])


def _newton(above: Array, g: Array) -> Array:
    """The solution of H d = g by conjugate gradients, where H may be singular and then is raised a little."""
    rows, columns = jnp.sum(above, axis=1), jnp.sum(above, axis=0)
    diagonal = jnp.concatenate([rows, columns])
    diagonal = diagonal + jnp.sqrt(jnp.finfo(g.dtype).eps) * jnp.maximum(diagonal, 1)

    def product(d: Array) -> Array:
        u, v = jnp.split(d, [rows.size])
        return diagonal * d + jnp.concatenate([above @ v, u @ above])

    def step(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        d, r, z, size, steps = carry
        hz = product(z)
        far = size / (z @ hz)
        d, r = d + far * z, r - far * hz
        new = r @ (r / diagonal)
        return d, r, r / diagonal + (new / size) * z, new, steps + 1

    first = g @ (g / diagonal)
    least = jnp.finfo(g.dtype).eps ** 1.5 * first

    def unfinished(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return (carry[3] > least) & (carry[4] < 4 * g.size)

    start = (jnp.zeros_like(g), g, g / diagonal, first, jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, step, start)[0]


def _raised(x: Array, total: Array) -> Array:
    """By how much a vector must be raised for its positive part to have this sum."""
    top = jnp.max(x)
    return -(top + threshold(x - top, total))


class _Search(NamedTuple):
    duals: _Duals
    part: Array  # the problem solved now is that of part * x
    size: Array  # the largest error of a sum
    steps: Array


def _gradient(duals: _Duals, x: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """By how much the sums of rows and columns are wrong, and the plan."""
    p = jnp.maximum(duals.value(x), 0)
    return jnp.concatenate([jnp.sum(p, axis=1) - a, jnp.sum(p, axis=0) - b]), p


def _newton_step(duals: _Duals, x: Array, a: Array, b: Array) -> _Duals:
    """The best u for v, the best v for that u, and a step that lowers the function."""
    u = jax.vmap(_raised)(x + duals.v[None, :], a)
    duals = _Duals(u, jax.vmap(_raised)((x + u[:, None]).T, b))
    g, p = _gradient(duals, x, a, b)
    change = -_newton((duals.value(x) > 0).astype(x.dtype), g)

    def moved(far: Array) -> _Duals:
        return _Duals(duals.u + far * change[: a.size], duals.v + far * change[a.size :])

    def objective(duals: _Duals, p: Array) -> Array:
        return jnp.sum(p * p) / 2 - a @ duals.u - b @ duals.v

    here, slope = objective(duals, p), g @ change

    def too_far(far: Array) -> Array:
        there = moved(far)
        g_there, p_there = _gradient(there, x, a, b)
        lower = objective(there, p_there) <= here + 1e-4 * far * slope
        better = jnp.max(jnp.abs(g_there)) <= jnp.max(jnp.abs(g)) / 2
        return ~(lower | better | (g_there @ change <= 0)) & (far > 0)

    return moved(lax.while_loop(too_far, lambda far: jnp.where(far > 1e-16, far / 2, 0), jnp.ones((), x.dtype)))


@jax.jit
def _solve(x: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """The plan, and where it is positive.

    If x is far from the plans, x / 4, x / 16 and so on are solved first, from the last one's multipliers.
    """
    eps, total = jnp.finfo(x.dtype).eps, jnp.sum(a)
    x = x - jnp.max(x)
    far = jnp.max(-x)
    enough = 8 * eps * (total + far)

    def step(s: _Search) -> _Search:
        duals = _newton_step(s.duals, s.part * x, a, b)
        size = jnp.max(jnp.abs(_gradient(duals, s.part * x, a, b)[0]))
        done = (s.part < 1) & (size <= 1e-3 * total)
        part = jnp.where(done, jnp.minimum(4 * s.part, 1), s.part)
        duals = _Duals(*(part / s.part * d for d in duals))
        return _Search(duals, part, jnp.where(done, jnp.inf, size), s.steps + 1)

    def unfinished(s: _Search) -> Array:
        return ((s.size > enough) | (s.part < 1)) & (s.steps < _STEPS)

    part = jnp.minimum(total / jnp.where(far > 0, far, 1), 1)
    part = jnp.where(far > 0, jnp.maximum(part, eps * eps), 1)
    nothing = _Duals(jnp.zeros_like(a), jnp.zeros_like(b))
    start = _Search(nothing, part, jnp.array(jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    p = _gradient(lax.while_loop(unfinished, step, start).duals, x, a, b)[1]
    above = p > 0
    inverse = jnp.linalg.pinv(_hessian(above.astype(x.dtype)), hermitian=True)
    for _ in range(2):  # what rounding of x + u + v, which may be large, has left
        g = jnp.concatenate([jnp.sum(p, axis=1) - a, jnp.sum(p, axis=0) - b])
        p = jnp.where(above, jnp.maximum(_Duals(*jnp.split(-inverse @ g, [a.size])).value(p), 0), 0)
    return p, above


@jax.custom_jvp
def _plan(x: Array, a: Array, b: Array) -> Array:
    return _solve(x, a, b)[0]


@_plan.defjvp
def _plan_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    p, above = _solve(*primals)
    weights = above.astype(p.dtype)
    return p, _plan_tangent(weights, jnp.linalg.pinv(_hessian(weights), hermitian=True), *tangents)


def _plan_tangent(weights: Array, inverse: Array, dx: Array, da: Array, db: Array) -> Array:
    """Weights * (dx + du + dv), with the du and dv for which its sums are da and db."""
    missing = jnp.concatenate([da - jnp.sum(weights * dx, axis=1), db - jnp.sum(weights * dx, axis=0)])
    return weights * _Duals(*jnp.split(inverse @ missing, [da.size])).value(dx)


def _scaled_plan(tol: float, maxiter: int, x: Array, a: Array, b: Array) -> Array:
    x = x - jnp.max(x)
    log_a, log_b = (jnp.where(m > 0, jnp.log(jnp.where(m > 0, m, 1)), -jnp.inf) for m in (a, b))
    bearable = max(tol, 8 * float(jnp.finfo(x.dtype).eps)) * jnp.sum(a)

    def rows(v: Array) -> Array:
        return log_a - logsumexp(x + v[None, :], axis=1)

    def step(carry: tuple[_Duals, Array, Array]) -> tuple[_Duals, Array, Array]:
        duals, _, steps = carry
        duals = _Duals(duals.u, log_b - logsumexp(x + duals.u[:, None], axis=0))
        u = rows(duals.v)
        some = a > 0  # the sums of the rows are a exp(u_now - u_next)
        error = jnp.max(jnp.where(some, a * jnp.abs(jnp.expm1(jnp.where(some, duals.u - u, 0))), 0))
        done = error <= bearable
        return _Duals(jnp.where(done, duals.u, u), duals.v), error, steps + 1

    def unfinished(carry: tuple[_Duals, Array, Array]) -> Array:
        return (carry[1] > bearable) & (carry[2] < maxiter)

    start = _Duals(rows(jnp.zeros_like(b)), jnp.zeros_like(b))
    infinite = jnp.array(jnp.inf, x.dtype)
    duals, *_ = lax.while_loop(unfinished, step, (start, infinite, jnp.zeros((), jnp.int32)))
    return jnp.exp(duals.value(x))


_scaled = jax.custom_jvp(jax.jit(_scaled_plan, static_argnums=(0, 1)), nondiff_argnums=(0, 1))


@_scaled.defjvp
def _scaled_jvp(
    tol: float, maxiter: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    p = _scaled_plan(tol, maxiter, *primals)
    return p, _plan_tangent(p, jnp.linalg.pinv(_hessian(p), hermitian=True), *tangents)
