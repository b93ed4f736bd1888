"""Minimizes a function in one jitted loop, and reports how the minimization ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, mesh, tree
from gradtx.core.metrics import find
from gradtx.core.transformation import apply_updates, as_transformation
from gradtx.core.value import function
from gradtx.curvature.lbfgs import lbfgs
from gradtx.curvature.line import value_and_grad
from gradtx.curvature.linesearch import LinesearchState, where
from gradtx.curvature.result import Result, Status
from gradtx.types import Params, State, Updates

__all__ = ["minimize", "solve"]

_RUNNING = -1
_PATIENCE = 50
"""After so many zero updates in a row the loop stops: a method that rejects a step tries a shorter one next, so a few
of them are normal. A step as small as rounding counts as ten."""
_TOL = {"float64": 1e-8, "float32": 1e-6}
"""The default of `tol` for each dtype of the value."""
_FURTHER = 8.0
"""Factor by which the path is extended at a time, to find out whether the function ever rises again."""


class _Loop(NamedTuple):
    params: Any
    state: Any
    value: Array
    grad: Any
    best: Result
    steepest: Array
    still: Array
    fresh: Array


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    tx: Any = None,
    *,
    args: tuple[Any, ...] = (),
    tol: float | None = None,
    maxiter: int = 1000,
    has_aux: bool = False,
    callback: Callable[..., Any] | None = None,
) -> Result:
    """Minimizes `fun(params, *args)`, a real scalar, starting from `x0`.

    Use it for deterministic problems that you want to solve to a tolerance: fits, small models, inner problems. For
    training on mini-batches write your own loop.

    The whole minimization is one jitted loop. It is compiled once per function, which may take seconds, and reused
    for later calls with the same `fun`. A lambda written in the call is a new function every time, so define `fun`
    once and pass what changes between calls, such as the data, in `args`. `minimize` also works under `jit` and
    `vmap`.

    Args:
      fun: The function to minimize: `fun(params, *args)` returns a real scalar.
      x0: The parameters to start from, a tree of floating-point arrays.
      tx: The method: any transformation whose updates descend. It gets `value`, `grad` and `value_fn`, so it may
        contain a line search. None (default) for `gx.lbfgs()`, a good choice for smooth functions.
      args: A tuple of further arguments of `fun`, trees of arrays. New arrays of the same shapes need no
        compilation.
      tol: Stop when the norm of the gradient is at most `tol`. Not negative. None (default) for 1e-8 if the values
        are in float64 and 1e-6 in float32; then a gradient as small as rounding allows counts as converged, too. If
        `tx` keeps the parameters in a set (`lbfgsb`, or a chain with `project`), the norm is that of x - P(x - g),
        where P projects onto the set.
      maxiter: Stop after this many steps. Not negative; 1000 by default.
      has_aux: Whether `fun` returns a pair of the value and something else, which is ignored. False by default.
      callback: A function that is called as `callback(step, value, grad_norm)` after every step, for progress bars
        and logs. None (default) for no calls.

    Returns:
      A `Result` with the best point seen, the reason why the loop ended, and counts. The point is never worse than
      `x0` (or than the point of the set nearest to it), and finite if `x0` is finite. If a line search fails, the
      method is restarted once from the current point before `minimize` gives up.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> result = gx.minimize(lambda x, center: jnp.sum((x - center) ** 4), jnp.zeros(2), args=(3.0,), tol=1e-4)
    >>> print(result.params.round(1), result.message)
    [3. 3.] Converged: the gradient is within the tolerance.

    Raises:
      TypeError: `fun` or `callback` is not a function, `args` is not a tuple, or a leaf of `x0` is not a
        floating-point array.
      ValueError: `tol` or `maxiter` is negative.
    """
    function("minimize", "fun", fun)
    checks.integer("minimize", "maxiter", maxiter, ge=0)
    leaves = jax.tree.leaves(x0)
    checks.floating("minimize", "x0", x0, leaves)
    if isinstance(tol, (int, float)) and not tol >= 0:
        raise ValueError(f"minimize: tol must be a number of at least 0, got {tol}.")
    if not isinstance(args, tuple):
        raise TypeError(
            f"minimize: args must be a tuple of the arguments of fun after the parameters, got {checks.shown(args)}. "
            "For a single argument write args=(data,)."
        )
    if callback is not None:
        function("minimize", "callback", callback)
    tx = as_transformation("minimize", lbfgs() if tx is None else tx)
    return _minimize(fun, jax.tree.map(jnp.asarray, x0), tx, tol, maxiter, has_aux, callback, args)


def solve(
    fun: Any,
    x0: Any,
    tx: Any,
    tol: Any,
    maxiter: Any,
    has_aux: bool = False,
    callback: Any = None,
    args: tuple[Any, ...] = (),
) -> Result:
    """Minimizes as `minimize` does, with arguments that are already checked and a function that may hold traced
    values.
    """

    def value_fn(params: Params) -> Any:
        out = fun(params, *args)
        return out[0] if has_aux else out

    x0 = tx.nearest(mesh.varying_with(value_fn, x0))
    dtype = jnp.promote_types(jax.eval_shape(value_fn, x0).dtype, tree.number(x0, 0).dtype)
    look = _looking(value_fn, dtype)
    least = jnp.asarray(_TOL[dtype.name] if tol is None else tol, dtype)

    def step(loop: _Loop) -> _Loop:
        given = {"value": loop.value, "grad": loop.grad, "value_fn": value_fn}
        updates, state = tx.update(loop.grad, loop.state, loop.params, **given)
        params = apply_updates(loop.params, updates)
        value, grad, tried, failed = _seen(state, params, look)
        evaluations = loop.best.evaluations + tried
        norm = tree.norm(tx.reduced_gradient(params, grad)).astype(dtype)

        still = jnp.where(_unchanged(loop, params, value), loop.still + jnp.where(_zero(updates), 1, 10), 0)
        restart = failed & ~loop.fresh
        finite = jnp.isfinite(value) & tree.finite((params, grad))
        lower = jnp.where(_equal(value, loop.best.value), norm < loop.best.grad_norm, value < loop.best.value)
        best = where(finite & lower, loop.best._replace(params=params, value=value, grad_norm=norm), loop.best)
        status = jnp.select(
            [~finite, best.grad_norm <= least, failed & ~restart, still >= _PATIENCE],
            [Status.not_finite, Status.converged, Status.linesearch_failed, Status.stalled],
            _RUNNING,
        ).astype(jnp.int32)
        best = best._replace(steps=best.steps + 1, evaluations=evaluations, status=status)
        if callback is not None:
            jax.debug.callback(callback, best.steps, value, norm)
        state = where(restart, tx.init(params), state)
        steepest = jnp.maximum(loop.steepest, jnp.where(finite, norm, 0))
        return _Loop(params, state, value, grad, best, steepest, still, restart)

    def go_on(loop: _Loop) -> Array:
        return (loop.best.status == _RUNNING) & (loop.best.steps < maxiter)

    value, grad = look(x0)
    norm = tree.norm(tx.reduced_gradient(x0, grad)).astype(dtype)
    finite = jnp.isfinite(value) & tree.finite(grad)
    status = jnp.select([~finite, norm <= least], [Status.not_finite, Status.converged], _RUNNING).astype(jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    best = Result(x0, value, norm, zero, zero + 1, status)
    start = _Loop(x0, tx.init(x0), value, grad, best, norm, zero, jnp.array(True))
    end = mesh.while_loop(go_on, step, start)
    return _ended(end, x0, tx, value_fn, tol is None)


_minimize = jax.jit(solve, static_argnums=(0, 5, 6))


def _looking(value_fn: Callable[[Any], Any], dtype: Any) -> Callable[[Any], tuple[Array, Any]]:
    """Returns a function from parameters to the value, in the dtype in which all values are compared, and the
    gradient.
    """
    both = value_and_grad(value_fn)

    def look(params: Params) -> tuple[Array, Any]:
        value, grad = both(params)
        return jnp.asarray(value).astype(dtype), grad

    return look


def _ended(end: _Loop, x0: Any, tx: Any, value_fn: Callable[[Any], Any], by_rounding: bool) -> Result:
    """Returns the best point together with the reason why the loop ended."""
    best = end.best
    status = jnp.where(best.status == _RUNNING, Status.maxiter, best.status)
    if by_rounding:
        stuck = (status == Status.stalled) | (status == Status.linesearch_failed)
        status = jnp.where(stuck & (best.grad_norm <= _hidden(best, end.steepest)), Status.converged, status)
    endless, tried = _endless(best, x0, tx, value_fn, status != Status.converged)
    status = jnp.where(endless | (end.value == -jnp.inf), Status.unbounded, status)
    return best._replace(status=status.astype(jnp.int32), evaluations=best.evaluations + tried)


def _hidden(best: Result, steepest: Array) -> Array:
    """Returns the gradient norm that rounding may hide, judged by the steepest gradient and by the rounding of the
    value.
    """
    size = tree.norm(best.params).astype(steepest.dtype)
    return jnp.sqrt(jnp.finfo(steepest.dtype).eps) * jnp.maximum(steepest, leaf.ratio(jnp.abs(best.value), size))


def _endless(best: Result, x0: Any, tx: Any, value_fn: Callable[[Any], Any], asked: Array) -> tuple[Array, Array]:
    """Returns whether the function falls to minus infinity beyond the best point, seen from `x0`, and the
    evaluations.
    """
    way = jax.tree.map(lambda p, x: leaf.widen(p) - leaf.widen(x), best.params, x0)

    def further(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        length, last, tried, _ = carry
        there = jax.tree.map(
            lambda p, w: leaf.narrow(leaf.widen(p) + length.astype(leaf.compute_dtype(w.dtype)) * w, p.dtype),
            best.params,
            way,
        )
        value = jnp.asarray(value_fn(tx.nearest(there))).astype(last.dtype)
        return length * _FURTHER, value, tried + 1, value < last

    def falling(carry: tuple[Array, Array, Array, Array]) -> Array:
        return carry[3] & jnp.isfinite(carry[1])

    start = jnp.ones_like(best.value), best.value, jnp.zeros_like(best.steps), asked
    _, last, tried, _ = mesh.while_loop(falling, further, start)
    return last == -jnp.inf, tried


def _seen(state: State, params: Params, look: Any) -> tuple[Array, Any, Any, Any]:
    """Returns value and gradient at the new parameters, the number of evaluations, and whether a line search failed."""
    searches = [part for _, part in find(state, LinesearchState)]
    failed = functools.reduce(jnp.logical_or, [part.info.failed for part in searches], jnp.array(False))
    tried = sum((part.info.num_linesearch_steps for part in searches), jnp.zeros((), jnp.int32))
    if len(searches) == 1 and jax.tree.leaves(searches[0].grad):
        like = jax.eval_shape(look, params)
        return *jax.tree.map(lambda x, y: x.astype(y.dtype), (searches[0].value, searches[0].grad), like), tried, failed
    return *look(params), tried + 1, failed


def _zero(updates: Updates) -> Array:
    return functools.reduce(jnp.logical_and, [jnp.all(u == 0) for u in jax.tree.leaves(updates)], jnp.array(True))


def _unchanged(loop: _Loop, params: Params, value: Array) -> Array:
    """Whether a step changed the value and the parameters by no more than rounding."""
    eps = jnp.finfo(value.dtype).eps
    moved = tree.norm(jax.tree.map(jnp.subtract, params, loop.params)) > 4 * eps * tree.norm(params)
    return _equal(value, loop.value) & ~moved


def _equal(a: Array, b: Array) -> Array:
    """Whether two values differ by no more than rounding; then gradients decide which point is better."""
    return jnp.abs(a - b) <= 4 * jnp.finfo(a.dtype).eps * jnp.abs(a)
