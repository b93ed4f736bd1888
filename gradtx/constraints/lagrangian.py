"""The Lagrangian method: descends in the parameters and ascends in the multipliers.

    L(x, alpha, beta) = f(x) + <alpha, g(x)> + <beta, h(x)>,        alpha >= 0
    x <- x - eta grad_x L,    alpha <- max(alpha + rho g(x), 0),    beta <- beta + rho h(x)

The saddle points of L solve the problem: minimize f subject to g <= 0 and h = 0 (Arrow, Hurwicz and Uzawa, 1958,
"Studies in Linear and Non-Linear Programming"). The gradients with respect to the multipliers are the values of the
constraints, so that the violation is known without evaluating them again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.constraints.problem import Problem, complementary_slackness, violation
from gradtx.core.composite import Inner, View, Wrapper, inner
from gradtx.core.hyper import HyperArg
from gradtx.core.metrics import reports
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation
from gradtx.optimizers.elementwise.sgd import sgd
from gradtx.types import Params, State, Updates

__all__ = ["LagrangianPoint", "PrimalDualState", "lagrangian", "primal_dual"]


class LagrangianPoint(NamedTuple):
    """The parameters of a constrained problem together with its multipliers; made by `lagrangian(...).init(params)`.

    Attributes:
      params: The parameters.
      multipliers: A dict with the items 'inequality' and 'equality', each shaped like what that constraint returns, or
        () for a constraint that is absent.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> problem = gx.lagrangian(lambda x: jnp.sum(x**2), equality=lambda x: jnp.sum(x) - 1)
      >>> problem.init(jnp.zeros(2)).multipliers
      {'equality': Array(0., dtype=float32), 'inequality': ()}
    """

    params: Any
    multipliers: dict[str, Any]


@reports("violation", "complementary_slackness")
class PrimalDualState(NamedTuple):
    """The number of steps, both inner states, and the violation and complementary slackness at the last point."""

    count: Array = counter()
    inner_state: Any = child_state()
    dual_state: Any = child_state(of="dual")
    violation: Array = per_tree(signed=False)
    complementary_slackness: Array = per_tree(signed=False)


class _Params(View):
    """Shows the parameters of a point."""

    selects = True

    def seen(self, tree: Any) -> Any:
        return tree.params

    def restored(self, part: Any, tree: Any) -> Any:
        return tree._replace(params=part)


class _Multipliers(View):
    """Shows the multipliers of a point; their loss is the negative Lagrangian, so that descent on it is ascent on L."""

    selects = True

    def seen(self, tree: Any) -> Any:
        return tree.multipliers

    def restored(self, part: Any, tree: Any) -> Any:
        return tree._replace(multipliers=part)

    def argument(self, name: str, x: Any, like: Any) -> Any:
        x = super().argument(name, x, like)
        if name in ("value", "grad"):
            return _negative(x)
        if name in ("value_fn", "grad_fn"):
            return lambda *args: _negative(x(*args))
        return x


def _negative(x: Any) -> Any:
    return jax.tree.map(jnp.negative, x)


class primal_dual(Wrapper, state=PrimalDualState):
    """Moves a `LagrangianPoint`: `inner` updates the parameters, and `dual` the multipliers.

    `lagrangian(...).optimizer` makes it. Updates, params and extra arguments that are points are split between the two.
    `dual` sees the negative gradient, so that a method that descends makes the multipliers ascend. Multipliers of
    inequalities are then projected so that params + updates is exactly at least 0. `gx.metrics(state)` reports the
    `violation` and the `complementary_slackness` at the point where the last gradient was taken.

    Args:
      inner: The optimizer of the parameters, such as `gx.adam(1e-3)`.
      dual: The optimizer of the multipliers, written as if it descended, such as `gx.sgd(0.1)`.

    Returns:
      A transformation whose `update` needs `params`, a `LagrangianPoint`. State: three numbers (12 bytes), beside both
        inner states.

    Example:
      >>> import jax, jax.numpy as jnp, gradtx as gx
      >>> problem = gx.lagrangian(lambda x: jnp.sum(x**2), inequality=lambda x: 1 - jnp.sum(x))
      >>> tx = gx.primal_dual(gx.sgd(0.1), gx.sgd(0.5))
      >>> point = problem.init(jnp.zeros(2))
      >>> updates, state = tx.update(jax.grad(problem)(point), tx.init(point), point)
      >>> print(updates.multipliers["inequality"], gx.metrics(state)["violation"])
      0.5 1.0

    Raises:
      TypeError: The updates or the params are not a `LagrangianPoint`.
    """

    dual: Inner = inner()

    def views(self, tree: Any) -> dict[str, View]:
        _as_point("primal_dual", "params", tree)
        return {"inner": _Params(), "dual": _Multipliers()}

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(tree.params if name == "inner" else tree.multipliers for tree in trees)

    def movers(self) -> dict[str, GradientTransformation]:
        """Returns the transformation of the parameters alone.

        A set to which `dual` keeps its parameters holds for the multipliers.
        """
        return {"inner": self.inner}

    def init(self, params: Params) -> PrimalDualState:
        return super().init(_as_point("primal_dual.init", "params", params))

    def _check_trees(self, updates: Updates, params: Params) -> None:
        _as_point("primal_dual.update", "updates", updates)
        if params is None:
            raise ValueError("primal_dual.update needs `params`, a point: call tx.update(updates, state, point).")
        _as_point("primal_dual.update", "params", params)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, PrimalDualState]:
        def moved(name: str, tx: Any, grad: Any, inner_state: Any) -> tuple[Any, Any]:
            view = self.views(params)[name]
            return tx.update(grad, inner_state, view.seen(params), **self.given(name, view, extra, params))

        moves, inner_state = moved("inner", self.inner, updates.params, state.inner_state)
        rises, dual_state = moved("dual", self.dual, _negative(updates.multipliers), state.dual_state)
        kept = jax.tree.map(_nonnegative, params.multipliers["inequality"], rises["inequality"])
        slack = complementary_slackness(updates.multipliers, params.multipliers)
        new = PrimalDualState(
            count=counted(state.count),
            inner_state=inner_state,
            dual_state=dual_state,
            violation=violation(updates.multipliers).astype(state.violation.dtype),
            complementary_slackness=slack.astype(state.complementary_slackness.dtype),
        )
        return LagrangianPoint(moves, {**rises, "inequality": kept}), new


def _nonnegative(a: Any, u: Any) -> Array:
    """Returns an update after which `a` is not negative: max(u, -a). Rounding keeps the order of u >= -a."""
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


class lagrangian(Problem):
    """The Lagrangian of a constrained problem, as a function to differentiate: training under constraints.

    The problem is to minimize loss(params) subject to inequality(params) <= 0 and equality(params) == 0. Use it to
    train with any optimizer and with batches. `problem.init(params)` returns the first point, with multipliers 0.
    `problem(point, *batch)` is the value of the Lagrangian, a plain function to differentiate. `problem.optimizer(tx)`
    returns the transformation that updates points.

        L(p, alpha, beta) = loss(p) + <alpha, inequality(p)> + <beta, equality(p)>,     alpha >= 0

    Args:
      loss: Function `loss(params, *batch)` that returns a real scalar; with `has_aux` a pair of the loss and anything
        else.
      inequality: Function of the parameters that returns a tree of real arrays, each entry of which has to be at most
        0. None by default; at least one of `inequality` and `equality` is needed.
      equality: Function of the parameters that returns a tree of real arrays, each entry of which has to be 0. None by
        default.
      has_aux: Whether `loss`, and then the Lagrangian too, returns a pair. Default False.

    Example:
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
      TypeError: An argument is not a function, or a constraint returns something else than a tree of real
        floating-point arrays.
      ValueError: There is no constraint.
    """

    def init(self, params: Params) -> LagrangianPoint:
        """Returns the first point: `params`, with multipliers of 0 in float32 or wider.

        Args:
          params: The parameters at which to start.
        """
        shapes = jax.eval_shape(self.constraints, params)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, leaf.accumulator_dtype(x.dtype)), shapes)
        return LagrangianPoint(params, zeros)

    def __call__(self, point: LagrangianPoint, *args: Any, **kwargs: Any) -> Any:
        """Returns the value of the Lagrangian at a point.

        Args:
          point: The `LagrangianPoint` at which to evaluate it.
          args: Further arguments of the loss, such as a batch.
          kwargs: Further keyword arguments of the loss.
        """
        params, multipliers = _as_point("lagrangian", "the point", point)
        terms = jax.tree.map(_inner, multipliers, self.constraints(params))
        return self._with_loss(params, args, kwargs, terms)

    def optimizer(self, tx: Any, multiplier_rate: Any | HyperArg = 0.1) -> primal_dual:
        """Returns the transformation that updates points: `tx` descends in the parameters, and the multipliers ascend.

        Multipliers of inequalities stay at or above 0.

        Args:
          tx: The optimizer of the parameters, such as `gx.adam(1e-3)`.
          multiplier_rate: Learning rate of the ascent in the multipliers, a number, an array or a schedule (default
            0.1). Plain ascent is stable only below 1 / s^2, where s is the largest singular value of the constraints'
            derivative. Or an optimizer, such as `gx.adam(0.01)`, which sees the negative gradient and so ascends.
        """
        made = hasattr(multiplier_rate, "init") and hasattr(multiplier_rate, "update")
        dual: Any = multiplier_rate if made else sgd(multiplier_rate)
        return primal_dual(tx, dual)

    def metrics(self, point: LagrangianPoint) -> dict[str, Array]:
        """Returns the `violation` and the `complementary_slackness` at a point, as a dict.

        Args:
          point: The `LagrangianPoint` at which to evaluate them.
        """
        found = self.constraints(point.params)
        return {
            "violation": violation(found),
            "complementary_slackness": complementary_slackness(found, point.multipliers),
        }


def _inner(multiplier: Array, values: Any) -> Array:
    return jnp.sum(multiplier * leaf.widen(jnp.asarray(values)))
