"""The Lagrangian, and descent in the parameters with ascent in the multipliers.

    L(x, alpha, beta) = f(x) + <alpha, g(x)> + <beta, h(x)>,        alpha >= 0
    x <- x - eta grad_x L,    alpha <- max(alpha + rho g(x), 0),    beta <- beta + rho h(x)

Its saddle points solve min f subject to g <= 0 and h = 0 (Arrow, Hurwicz and Uzawa, 1958, "Studies in Linear and
Non-Linear Programming"). The gradients in the multipliers are the constraints themselves, so that how far they are
violated is known without computing them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.constraints.problem import Problem, complementary_slackness, violation
from gradtx.core.hyper import HyperArg
from gradtx.core.report import reports
from gradtx.core.state import counted
from gradtx.core.transformation import as_transformation
from gradtx.core.value import child
from gradtx.core.wrapper import Wrapper
from gradtx.optimizers.elementwise.sgd import sgd

__all__ = ["LagrangianPoint", "PrimalDualState", "lagrangian", "primal_dual"]


class LagrangianPoint(NamedTuple):
    """Parameters, and multipliers: a dict of `inequality` and `equality`, each like what that constraint returns.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> problem = gx.lagrangian(lambda x: jnp.sum(x**2), equality=lambda x: jnp.sum(x) - 1)
    >>> problem.init(jnp.zeros(2)).multipliers
    {'equality': Array(0., dtype=float32), 'inequality': ()}
    """

    params: Any
    multipliers: dict[str, Any]


@reports("violation", "complementary_slackness")
class PrimalDualState(NamedTuple):
    """The steps taken, both inner states, and how far the last point was from the constraints."""

    count: Array
    inner_state: Any
    dual_state: Any
    violation: Array
    complementary_slackness: Array


def _check_dual(who: str, name: str, value: Any) -> Any:
    del name
    return as_transformation(who, value)


class primal_dual(Wrapper, state=PrimalDualState):
    """`inner` for the parameters of a point, `dual` for its multipliers: what `lagrangian(...).optimizer` returns.

    Updates, params and extra arguments that are points are divided between the two. `dual` sees the negative
    gradient, so that a method that descends makes the multipliers ascend; those of inequalities are then projected
    onto alpha >= 0, which params + updates keeps exactly. `metrics(state)` has the `violation` and the
    `complementary_slackness` at the point where the last gradient was taken.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> problem = gx.lagrangian(lambda x: jnp.sum(x**2), inequality=lambda x: 1 - jnp.sum(x))
    >>> tx = gx.primal_dual(gx.sgd(0.1), gx.sgd(0.5))
    >>> point = problem.init(jnp.zeros(2))
    >>> updates, state = tx.update(jax.grad(problem)(point), tx.init(point), point)
    >>> print(updates.multipliers["inequality"], gx.metrics(state)["violation"])
    0.5 1.0

    Raises:
      TypeError: the updates are no point.
    """

    dual: Any = child(check=_check_dual)

    def init(self, params: Any) -> PrimalDualState:
        point = _as_point("primal_dual.init", "params", params)
        zero = tree.number(point.multipliers, 0.0)
        inner_state, dual_state = self.inner.init(point.params), self.dual.init(point.multipliers)
        return PrimalDualState(jnp.zeros((), jnp.int32), inner_state, dual_state, zero, zero + 0)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, PrimalDualState]:
        self._begin(state, extra)
        grads = _as_point("primal_dual.update", "updates", updates)
        if params is None:
            raise ValueError("primal_dual.update needs `params`, a point: call tx.update(updates, state, point).")
        point = _as_point("primal_dual.update", "params", params)
        given = self.inner._used(_of_params(extra, point))
        moves, inner_state = self.inner.update(grads.params, state.inner_state, point.params, **given)
        down = jax.tree.map(jnp.negative, grads.multipliers)
        given = self.dual._used(_of_multipliers(extra, point))
        rises, dual_state = self.dual.update(down, state.dual_state, point.multipliers, **given)
        kept = jax.tree.map(_nonnegative, point.multipliers["inequality"], rises["inequality"])
        measured = violation(grads.multipliers), complementary_slackness(grads.multipliers, point.multipliers)
        numbers = (x.astype(old.dtype) for x, old in zip(measured, state[3:], strict=True))
        new = PrimalDualState(counted(state.count), inner_state, dual_state, *numbers)
        return LagrangianPoint(moves, {**rises, "inequality": kept}), new

    def _accepts(self, name: str) -> bool:
        return super()._accepts(name) or self.dual._accepts(name)

    def _within(self, state: Any) -> dict[str, Any]:
        parts = (None, None) if state is None else (state.inner_state, state.dual_state)
        return dict(zip(("inner", "dual"), parts, strict=True))


def _nonnegative(a: Any, u: Any) -> Array:
    """An update after which `a` is not negative: max(u, -a), since rounding keeps the order of u >= -a."""
    lowest = -leaf.widen(jnp.asarray(a))
    wide = jnp.maximum(leaf.widen(jnp.asarray(u)), lowest)
    return leaf.narrow(wide, jnp.result_type(u))


def _as_point(who: str, name: str, x: Any) -> LagrangianPoint:
    if not isinstance(x, LagrangianPoint):
        raise TypeError(
            f"{who}: {name} must be a LagrangianPoint, got {checks.shown(x)}. Start from point = problem.init(params), "
            "and differentiate the problem at it: jax.grad(problem)(point)."
        )
    return x


def _of_params(extra: Mapping[str, Any], point: LagrangianPoint) -> dict[str, Any]:
    """The extra arguments as a transformation of the parameters alone sees them."""
    given = {name: x.params if isinstance(x, LagrangianPoint) else x for name, x in extra.items()}

    def at(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda params, *args: fn(point._replace(params=params), *args)

    if "value_fn" in given:
        given["value_fn"] = at(extra["value_fn"])
    if "grad_fn" in given:
        given["grad_fn"] = lambda params, *args: at(extra["grad_fn"])(params, *args).params
    return given


def _of_multipliers(extra: Mapping[str, Any], point: LagrangianPoint) -> dict[str, Any]:
    """The extra arguments as a transformation of the multipliers sees them: of the negative Lagrangian."""
    given = {name: x.multipliers if isinstance(x, LagrangianPoint) else x for name, x in extra.items()}

    def at(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda multipliers, *args: fn(point._replace(multipliers=multipliers), *args)

    if "value" in given:
        given["value"] = -extra["value"]
    if "grad" in given:
        given["grad"] = jax.tree.map(jnp.negative, given["grad"])
    if "value_fn" in given:
        given["value_fn"] = lambda multipliers, *args: -at(extra["value_fn"])(multipliers, *args)
    if "grad_fn" in given:
        fn = at(extra["grad_fn"])
        given["grad_fn"] = lambda x, *args: jax.tree.map(jnp.negative, fn(x, *args).multipliers)
    return given


class lagrangian(Problem):
    """The Lagrangian of min loss(params) subject to inequality(params) <= 0 and equality(params) == 0.

    `problem.init(params)` is the first point, with multipliers 0; `problem(point, *batch)` is the Lagrangian there,
    a plain function to differentiate; `problem.optimizer(tx)` moves points.

    Args:
      loss: `loss(params, *batch)`, a real scalar; with `has_aux` a pair of it and anything else.
      inequality: a function of the parameters to a tree of real arrays, whose entries are to be <= 0.
      equality: the same for entries that are to be 0. Either may be left out; its multipliers are then ().
      has_aux: whether the loss, and then the Lagrangian too, returns a pair.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> problem = gx.lagrangian(lambda x: jnp.sum(x**2), inequality=lambda x: 1 - jnp.sum(x))
    >>> tx = problem.optimizer(gx.sgd(0.1), multiplier_rate=0.2)
    >>> step = jax.jit(gx.value_and_step(problem, tx))
    >>> point = problem.init(jnp.zeros(2))
    >>> state = tx.init(point)
    >>> for _ in range(200):
    ...     point, state, value = step(point, state)
    >>> print(point.params.round(3), point.multipliers["inequality"].round(3))
    [0.5 0.5] 1.0

    Raises:
      TypeError: a function is none; a constraint returns what is no tree of real floating arrays.
      ValueError: there is no constraint.
    """

    def init(self, params: Any) -> LagrangianPoint:
        """`params`, and multipliers of 0, shaped like the constraints and in float32 or wider."""
        shapes = jax.eval_shape(self.constraints, params)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, leaf.accumulator_dtype(x.dtype)), shapes)
        return LagrangianPoint(params, zeros)

    def __call__(self, point: LagrangianPoint, *args: Any, **kwargs: Any) -> Any:
        """The Lagrangian at a point; what follows the point goes to the loss."""
        params, multipliers = _as_point("lagrangian", "the point", point)
        terms = jax.tree.map(_inner, multipliers, self.constraints(params))
        return self._with_loss(params, args, kwargs, terms)

    def optimizer(self, tx: Any, multiplier_rate: Any | HyperArg = 0.1) -> primal_dual:
        """The transformation of points: `tx` descends in the parameters, the multipliers ascend, alpha >= 0.

        `multiplier_rate` (default 0.1) is the learning rate of the ascent: a number, an array or a schedule. Or it is
        a transformation that descends, such as `gx.adam(0.01)`, which then sees the negative gradient. Plain ascent
        is stable only if the rate is below 1 / s^2, s the largest singular value of the constraints' derivative.
        """
        made = hasattr(multiplier_rate, "init") and hasattr(multiplier_rate, "update")
        return primal_dual(tx, multiplier_rate if made else sgd(multiplier_rate))

    def metrics(self, point: LagrangianPoint) -> dict[str, Array]:
        """The `violation` and `complementary_slackness` at a point."""
        found = self.constraints(point.params)
        return {
            "violation": violation(found),
            "complementary_slackness": complementary_slackness(found, point.multipliers),
        }


def _inner(multiplier: Array, values: Any) -> Array:
    return jnp.sum(multiplier * leaf.widen(jnp.asarray(values)))
