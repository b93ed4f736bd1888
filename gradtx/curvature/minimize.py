"""A whole minimization in one jitted loop, which says how it ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, mesh, tree
from gradtx.core.metrics import find
from gradtx.core.transformation import apply_updates, as_transformation
from gradtx.core.value import function
from gradtx.curvature.lbfgs import lbfgs
from gradtx.curvature.line import value_and_grad
from gradtx.curvature.linesearch import LinesearchState, where
from gradtx.curvature.result import Result, Status

__all__ = ["minimize", "solve"]

_RUNNING = -1
_PATIENCE = 50
"""Zero updates in a row: methods that refuse a step try a shorter one next. Steps of rounding's size count for ten."""


class _Loop(NamedTuple):
    params: Any
    state: Any
    value: Array
    grad: Any
    best: Result
    still: Array
    fresh: Array


def minimize(
    fun: Callable[[Any], Any],
    x0: Any,
    tx: Any = None,
    *,
    tol: float = 1e-8,
    maxiter: int = 1000,
    has_aux: bool = False,
    callback: Callable[..., Any] | None = None,
) -> Result:
    """Minimizes `fun(params)`, a real scalar, from `x0`, with the steps of `tx`.

    Args:
      fun: the function.
      x0: the first parameters, a tree of floating arrays.
      tx: any transformation that descends, `lbfgs()` by default. It may need `value`, `grad` and `value_fn`.
      tol: the norm of the gradient at which to stop; for a `tx` that keeps to a set (`lbfgsb`, or a chain with
        `project`), of what the set leaves of it, x - P(x - g).
      maxiter: the largest number of steps.
      has_aux: True where `fun` returns a pair of the value and anything else, which is not used.
      callback: `callback(step, value, grad_norm)` is called after every step, for progress bars and logs.

    Returns:
      The best point that was seen, never one worse than `x0` (or than the nearest point in the set), and how it ended.
      Where a line search fails, the method starts anew once from there before it gives up.

    It is one while loop, jitted and kept for the next call with the same `fun`, and works under jit and vmap.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> result = gx.minimize(lambda x: jnp.sum((x - 3.0) ** 4), jnp.zeros(2), tol=1e-4)
    >>> print(result.params.round(1), result.message)
    [3. 3.] The gradient is as small as was asked for.

    Raises:
      TypeError, ValueError: an argument is none of those.
    """
    function("minimize", "fun", fun)
    checks.integer("minimize", "maxiter", maxiter, ge=0)
    leaves = jax.tree.leaves(x0)
    checks.floating("minimize", "x0", x0, leaves)
    if isinstance(tol, (int, float)) and not tol >= 0:
        raise ValueError(f"minimize: tol must be a number of at least 0, got {tol}.")
    if callback is not None:
        function("minimize", "callback", callback)
    tx = as_transformation("minimize", lbfgs() if tx is None else tx)
    return _minimize(fun, jax.tree.map(jnp.asarray, x0), tx, tol, maxiter, has_aux, callback)


def solve(fun: Any, x0: Any, tx: Any, tol: Any, maxiter: Any, has_aux: bool = False, callback: Any = None) -> Result:
    """`minimize` of checked arguments, for a function that may hold traced values."""

    def value_fn(params: Any) -> Any:
        return fun(params)[0] if has_aux else fun(params)

    look = value_and_grad(value_fn)

    def step(loop: _Loop) -> _Loop:
        given = {"value": loop.value, "grad": loop.grad, "value_fn": value_fn}
        updates, state = tx.update(loop.grad, loop.state, loop.params, **given)
        params = apply_updates(loop.params, updates)
        value, grad, tried, failed = _seen(state, params, look)
        evaluations = loop.best.evaluations + tried
        norm = tree.norm(tx.reduced_gradient(params, grad)).astype(value.dtype)

        still = jnp.where(_unchanged(loop, params, value), loop.still + jnp.where(_zero(updates), 1, 10), 0)
        restart = failed & ~loop.fresh
        finite = jnp.isfinite(value) & tree.finite(grad)
        status = jnp.select(
            [~finite, norm <= tol, failed & ~restart, still >= _PATIENCE],
            [Status.not_finite, Status.converged, Status.linesearch_failed, Status.stalled],
            _RUNNING,
        ).astype(jnp.int32)
        lower = jnp.where(_equal(value, loop.best.value), norm < loop.best.grad_norm, value < loop.best.value)
        best = where(finite & lower, loop.best._replace(params=params, value=value, grad_norm=norm), loop.best)
        best = best._replace(steps=best.steps + 1, evaluations=evaluations, status=status)
        if callback is not None:
            jax.debug.callback(callback, best.steps, value, norm)
        state = where(restart, tx.init(params), state)
        return _Loop(params, state, value, grad, best, still, restart)

    def go_on(loop: _Loop) -> Array:
        return (loop.best.status == _RUNNING) & (loop.best.steps < maxiter)

    x0 = tx.nearest(mesh.varying_with(value_fn, x0))
    value, grad = look(x0)
    norm = tree.norm(tx.reduced_gradient(x0, grad)).astype(value.dtype)
    finite = jnp.isfinite(value) & tree.finite(grad)
    status = jnp.select([~finite, norm <= tol], [Status.not_finite, Status.converged], _RUNNING).astype(jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    best = Result(x0, value, norm, zero, zero + 1, status)
    end = mesh.while_loop(go_on, step, _Loop(x0, tx.init(x0), value, grad, best, zero, jnp.array(True))).best
    return end._replace(status=jnp.where(end.status == _RUNNING, Status.maxiter, end.status).astype(jnp.int32))


_minimize = jax.jit(solve, static_argnums=(0, 5, 6))


def _seen(state: Any, params: Any, look: Any) -> tuple[Array, Any, Any, Any]:
    """Value and gradient at the new parameters, how many evaluations they took, and whether a search failed."""
    searches = [part for _, part in find(state, LinesearchState)]
    failed = functools.reduce(jnp.logical_or, [part.info.failed for part in searches], jnp.array(False))
    tried = sum((part.info.num_linesearch_steps for part in searches), jnp.zeros((), jnp.int32))
    if len(searches) == 1 and jax.tree.leaves(searches[0].grad):
        grad = jax.tree.map(lambda g, p: g.astype(p.dtype), searches[0].grad, params)
        return searches[0].value, grad, tried, failed
    return *look(params), tried + 1, failed


def _zero(updates: Any) -> Array:
    return functools.reduce(jnp.logical_and, [jnp.all(u == 0) for u in jax.tree.leaves(updates)], jnp.array(True))


def _unchanged(loop: _Loop, params: Any, value: Array) -> Array:
    """Whether a step changed the value and the parameters by no more than rounding does."""
    eps = jnp.finfo(value.dtype).eps
    moved = tree.norm(jax.tree.map(jnp.subtract, params, loop.params)) > 4 * eps * tree.norm(params)
    return _equal(value, loop.value) & ~moved


def _equal(a: Array, b: Array) -> Array:
    """Whether two values differ by no more than rounding: then slopes decide."""
    return jnp.abs(a - b) <= 4 * jnp.finfo(a.dtype).eps * jnp.abs(a)
