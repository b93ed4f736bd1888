"""The augmented Lagrangian method: finds multipliers by solving a sequence of unconstrained problems.

To minimize f subject to g <= 0 and h = 0, with multipliers alpha >= 0 and beta and a penalty rho > 0, every round
minimizes

    L_rho(x) = f + 1 / (2 rho) sum_i (max(alpha_i + rho g_i, 0)^2 - alpha_i^2) + sum_j (beta_j h_j + rho/2 h_j^2)

and then updates the multipliers (Hestenes, 1969, "Multiplier and Gradient Methods"; Powell, 1969, "A Method for
Nonlinear Constraints in Minimization Problems"; Rockafellar, 1973, "The Multiplier Method of Hestenes and Powell
Applied to Convex Programming"):

    alpha <- max(alpha + rho g, 0),    beta <- beta + rho h

The gradient of the Lagrangian at the new multipliers is then the gradient of L_rho. With V = (max(g, -alpha / rho), h),
rho grows tenfold unless |V| fell to a quarter. The multipliers at the beginning of a round are bounded, and the
functions are scaled so that their gradients are at most 1 at the first point. rho begins at 10 max(1, |f|) / max(1,
|V|^2 / 2) (Birgin and Martinez, 2014, "Practical Augmented Lagrangian Methods for Constrained Optimization").
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree
from gradtx.constraints.problem import Problem, complementary_slackness, violation
from gradtx.constraints.result import ConstrainedResult
from gradtx.core.transformation import as_transformation
from gradtx.curvature.lbfgs import lbfgs
from gradtx.curvature.line import value_and_grad
from gradtx.curvature.linesearch import where
from gradtx.curvature.minimize import solve
from gradtx.curvature.result import Status
from gradtx.types import Params

__all__ = ["augmented_lagrangian"]

_RUNNING = -1
_GROWTH, _ENOUGH = 10.0, 0.25  # the penalty grows by the first unless the violation falls to the second part
_TIGHTER = 0.1  # factor of the inner tolerance from round to round
_ROUNDING = 100  # times eps is the smallest tolerance
_PATIENCE = 5  # rounds in a row in which the inner solver misses its tolerance and nothing improves


class _Loop(NamedTuple):
    params: Any
    multipliers: Any
    penalty: Array
    inner_tol: Array
    missed: Array
    still: Array
    best: ConstrainedResult


class _Scaled(NamedTuple):
    """The problem with its loss and each constraint multiplied by a number."""

    problem: Any
    loss_scale: Array
    scales: Any

    def loss(self, params: Params) -> Array:
        value = self.problem.value(params)
        return value * self.loss_scale.astype(value.dtype)

    def constraints(self, params: Params) -> Any:
        return jax.tree.map(jnp.multiply, _widened(self.problem.constraints(params)), self.scales)

    def original(self, multipliers: Any) -> Any:
        """Returns the multipliers of the original, unscaled problem."""
        return jax.tree.map(lambda a, s: a * s / self.loss_scale.astype(a.dtype), multipliers, self.scales)


def augmented_lagrangian(
    loss: Callable[[Any], Any],
    x0: Any,
    *,
    inequality: Callable[[Any], Any] | None = None,
    equality: Callable[[Any], Any] | None = None,
    inner: Any = None,
    tol: float = 1e-6,
    maxiter: int = 50,
    inner_maxiter: int = 1000,
    has_aux: bool = False,
) -> ConstrainedResult:
    """Minimizes `loss(params)` subject to inequality(params) <= 0 and equality(params) == 0.

    Use it for small or medium deterministic problems that should be solved to a tolerance. For training with batches
    take `lagrangian` instead, which works with any optimizer. The whole solver is one jitted while loop and works under
    `jit` and `vmap`. Scaling takes one gradient per constraint at the start.

    Args:
      loss: Function of the parameters that returns a real scalar. It must be smooth, like the constraints.
      x0: Parameters at which to start, a tree of floating-point arrays. They may violate the constraints.
      inequality: Function of the parameters that returns a tree of real arrays, each entry of which has to be at most
        0. None by default; at least one of `inequality` and `equality` is needed.
      equality: Function of the parameters that returns a tree of real arrays, each entry of which has to be 0. None by
        default.
      inner: The transformation with which `minimize` solves each round; `lbfgs()` by default.
      tol: Largest allowed violation, complementary slackness and norm of the Lagrangian's gradient at the end (default
        1e-6). The last two are measured in the problem scaled to gradients of at most 1 at `x0`. Values below 100 eps
        (1.2e-5 in float32) are raised to it.
      maxiter: Largest number of rounds, each with new multipliers (default 50).
      inner_maxiter: Largest number of steps of the inner solver in a round (default 1000).
      has_aux: Whether `loss` returns a pair of the value and anything else, which is ignored. Default False.

    Returns:
      A `ConstrainedResult`: the best point found, its multipliers, and how the solver ended.

    References:
      Birgin and Martinez, 2014, "Practical Augmented Lagrangian Methods for Constrained Optimization".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> result = gx.augmented_lagrangian(
      ...     lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2, jnp.zeros(2),
      ...     inequality=lambda x: x[0] ** 2 + x[1] ** 2 - 1, tol=1e-3,
      ... )
      >>> print(result.params.round(2), result.message)
      [0.89 0.45] The constraints hold, and the gradient of the Lagrangian is at most tol.

    Raises:
      TypeError: An argument is of the wrong kind, or a function returns something else than real numbers.
      ValueError: There is no constraint, or a number is out of its range.
    """
    who = "augmented_lagrangian"
    problem = _Named(loss, inequality=inequality, equality=equality, has_aux=has_aux)
    for name, value in (("maxiter", maxiter), ("inner_maxiter", inner_maxiter)):
        checks.integer(who, name, value, ge=1)
    leaves = jax.tree.leaves(x0)
    checks.floating(who, "x0", x0, leaves)
    if isinstance(tol, (int, float)) and not tol > 0:
        raise ValueError(f"{who}: tol must be a number above 0, got {tol}.")
    inner = as_transformation(who, lbfgs() if inner is None else inner)
    return _solve(problem, jax.tree.map(jnp.asarray, x0), inner, tol, maxiter, inner_maxiter)


class _Named(Problem):
    """A problem whose error messages name the function that the user called."""

    def value(self, params: Params) -> Array:
        out = self._with_loss(params, (), {}, ())
        return out[0] if self.has_aux else out


_Named.__name__ = "augmented_lagrangian"


@jax.jit
def _solve(problem: Any, x0: Any, inner: Any, tol: Any, maxiter: Any, inner_maxiter: Any) -> ConstrainedResult:
    x0 = mesh.varying_with(lambda x: (problem.value(x), problem.constraints(x)), x0)
    scaled = _scaled(problem, x0)
    start = _begin(scaled, x0, tol)
    tol = jnp.maximum(tol, _ROUNDING * jnp.finfo(start.penalty.dtype).eps)
    end = mesh.while_loop(
        lambda loop: (loop.best.status == _RUNNING) & (loop.best.steps < maxiter),
        lambda loop: _round(loop, scaled, inner, tol, inner_maxiter),
        start,
    ).best
    return end._replace(status=jnp.where(end.status == _RUNNING, Status.maxiter, end.status).astype(jnp.int32))


def _begin(scaled: _Scaled, x0: Any, tol: Any) -> _Loop:
    value, grad = value_and_grad(scaled.loss)(x0)
    found = scaled.constraints(x0)
    multipliers = jax.tree.map(jnp.zeros_like, found)
    size = tree.norm_sq(_missed(found, multipliers, jnp.ones(()))) / 2
    dtype = jnp.result_type(value.dtype, size.dtype, jnp.float32)
    penalty = 10 * jnp.maximum(1, jnp.abs(value)) / jnp.maximum(1, size)
    penalty = jnp.clip(jnp.where(jnp.isfinite(penalty), penalty, 10), 1e-4, 1e4).astype(dtype)
    finite = jnp.isfinite(value) & tree.finite(grad) & tree.finite(found)
    status = jnp.where(finite, _RUNNING, Status.not_finite).astype(jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    raw = scaled.problem.constraints(x0)
    best = ConstrainedResult(
        params=x0,
        value=scaled.problem.value(x0),
        multipliers=scaled.original(multipliers),
        violation=violation(raw).astype(dtype),
        complementary_slackness=jnp.zeros((), dtype),
        grad_norm=(tree.norm(grad) / scaled.loss_scale).astype(dtype),
        steps=zero,
        evaluations=zero + 1,
        status=status,
    )
    return _Loop(
        params=x0,
        multipliers=multipliers,
        penalty=penalty,
        inner_tol=jnp.maximum(jnp.sqrt(jnp.asarray(tol, dtype)), tol).astype(dtype),
        missed=jnp.full((), jnp.inf, dtype),
        still=zero,
        best=best,
    )


def _round(loop: _Loop, scaled: _Scaled, inner: Any, tol: Any, inner_maxiter: Any) -> _Loop:
    """Takes one round: an inner minimization, then new multipliers, penalty and tolerances."""

    def augmented(params: Params) -> Array:
        terms = _augmentation(scaled.constraints(params), loop.multipliers, loop.penalty)
        return functools.reduce(jnp.add, terms, scaled.loss(params))

    found = solve(augmented, loop.params, inner, loop.inner_tol, inner_maxiter)
    dtype = loop.penalty.dtype
    constraints = scaled.constraints(found.params)
    # The inner problem has no minimum: the penalty is too small to outweigh the loss.
    lost = (found.status == Status.not_finite) | (found.status == Status.unbounded)
    missed = _largest(_missed(constraints, loop.multipliers, loop.penalty)).astype(dtype)
    renewed = _renewed(constraints, loop.multipliers, loop.penalty)

    raw, original = scaled.problem.constraints(found.params), scaled.original(renewed)
    now = loop.best._replace(
        params=found.params,
        value=scaled.problem.value(found.params),
        multipliers=original,
        violation=violation(raw).astype(dtype),
        complementary_slackness=complementary_slackness(raw, original).astype(dtype),
        grad_norm=(found.grad_norm / scaled.loss_scale).astype(dtype),
    )
    holds = jnp.maximum(now.violation, missed) <= tol
    slack = complementary_slackness(constraints, renewed)
    converged = holds & (slack <= tol) & (found.grad_norm <= tol) & ~lost
    improved = (missed <= _ENOUGH * loop.missed) & (missed < loop.missed)
    grown = lost | ~(improved | holds)
    penalty = jnp.where(grown, _GROWTH * loop.penalty, loop.penalty).astype(dtype)
    still = jnp.where((found.grad_norm > loop.inner_tol) & ~improved, loop.still + 1, 0)
    largest = float(jnp.finfo(dtype).eps) ** -0.75
    status = jnp.select(
        [converged, lost & (penalty > largest), penalty > largest, still >= _PATIENCE],
        [
            Status.converged,
            Status.not_finite,
            jnp.where(now.violation > tol, Status.infeasible, Status.stalled),
            Status.stalled,
        ],
        _RUNNING,
    ).astype(jnp.int32)

    best = where(converged | (_better(now, loop.best, tol) & ~lost), now, loop.best)
    best = best._replace(
        steps=loop.best.steps + 1, evaluations=loop.best.evaluations + found.evaluations, status=status
    )
    inner_tol = jnp.maximum(_TIGHTER * loop.inner_tol, tol).astype(dtype)
    return _Loop(
        params=where(lost, loop.params, found.params),
        multipliers=where(lost, loop.multipliers, _bounded(renewed)),
        penalty=penalty,
        inner_tol=jnp.where(lost, loop.inner_tol, inner_tol),
        missed=where(lost, loop.missed, missed),
        still=still,
        best=best,
    )


def _augmentation(constraints: Any, multipliers: Any, penalty: Array) -> list[Array]:
    """Returns the terms that L_rho adds to the loss."""

    def inequality(g: Array, a: Array) -> Array:
        rho = penalty.astype(g.dtype)
        return jnp.sum(jnp.where(a + rho * g > 0, g * (a + rho / 2 * g), -a * a / (2 * rho)))

    def equality(h: Array, b: Array) -> Array:
        return jnp.sum(h * (b + penalty.astype(h.dtype) / 2 * h))

    return [
        *jax.tree.leaves(jax.tree.map(inequality, constraints["inequality"], multipliers["inequality"])),
        *jax.tree.leaves(jax.tree.map(equality, constraints["equality"], multipliers["equality"])),
    ]


def _missed(constraints: Any, multipliers: Any, penalty: Array) -> Any:
    """Returns V: by how much constraints and complementarity are violated."""
    below = jax.tree.map(
        lambda g, a: jnp.maximum(g, -a / penalty.astype(g.dtype)), constraints["inequality"], multipliers["inequality"]
    )
    return {"inequality": below, "equality": constraints["equality"]}


def _renewed(constraints: Any, multipliers: Any, penalty: Array) -> Any:
    after = jax.tree.map(lambda c, a: a + penalty.astype(c.dtype) * c, constraints, multipliers)
    return {**after, "inequality": jax.tree.map(lambda a: jnp.maximum(a, 0), after["inequality"])}


def _bounded(multipliers: Any) -> Any:
    """Returns the multipliers cut to the bounds that hold at the beginning of a round."""
    return jax.tree.map(lambda a: leaf.clip(a, min(1e20, float(jnp.finfo(a.dtype).max) ** 0.25)), multipliers)


def _better(now: ConstrainedResult, best: ConstrainedResult, tol: Any) -> Array:
    new, old = jnp.maximum(now.violation, tol), jnp.maximum(best.violation, tol)
    # If two values are equal up to the tolerance, the point with the smaller gradient is better.
    close = jnp.abs(now.value - best.value) <= tol * jnp.maximum(1, jnp.abs(best.value))
    lower = jnp.where(close, now.grad_norm < best.grad_norm, now.value < best.value)
    return (new < old) | ((new <= old) & lower)


def _largest(values: Any) -> Array:
    return violation({"inequality": (), "equality": values})


def _widened(values: Any) -> Any:
    return jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), values)


def _scaled(problem: Any, x0: Any) -> _Scaled:
    """Scales the problem so that no gradient at the first point has an entry above 1."""

    def factor(grad: Any) -> Array:
        top = _largest(jax.tree.map(lambda g: jnp.abs(g).astype(leaf.compute_dtype(g.dtype)), grad))
        return jnp.where(jnp.isfinite(top), 1 / jnp.maximum(top, 1), 1)

    values, pull = jax.vjp(lambda x: _widened(problem.constraints(x)), x0)
    flat, treedef = jax.tree.flatten(values)
    scales: list[Array] = []
    for place, like in enumerate(flat):

        def of_entry(i: Array, place: int = place, like: Array = like) -> Array:
            seed = [jnp.zeros_like(x) for x in flat]
            seed[place] = jnp.zeros_like(like).ravel().at[i].set(1).reshape(like.shape)
            return factor(pull(treedef.unflatten(seed))[0]).astype(like.dtype)

        found = lax.map(of_entry, jnp.arange(like.size)) if like.size else jnp.zeros((0,), like.dtype)
        scales.append(found.reshape(like.shape))
    return _Scaled(problem, factor(jax.grad(problem.value)(x0)), treedef.unflatten(scales))
