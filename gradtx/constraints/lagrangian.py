"""The Lagrangian, and descent in the parameters with ascent in the multipliers.

    L(x, alpha, beta) = f(x) + <alpha, g(x)> + <beta, h(x)>,        alpha >= 0
    x <- x - eta grad_x L,    alpha <- max(alpha + rho g(x), 0),    beta <- beta + rho h(x)

Its saddle points solve min f subject to g <= 0 and h = 0 (Arrow, Hurwicz and Uzawa, 1958, "Studies in Linear and
Non-Linear Programming"). The gradients in the multipliers are the constraints themselves, so that how far they are
violated is known without computing them again.
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

    count: Array = counter()
    inner_state: Any = child_state()
    dual_state: Any = child_state(of="dual")
    violation: Array = per_tree(signed=False)
    complementary_slackness: Array = per_tree(signed=False)


class _Params(View):
    """The parameters of a point."""

    selects = True

    def seen(self, tree: Any) -> Any:
        return tree.params

    def restored(self, part: Any, tree: Any) -> Any:
        return tree._replace(params=part)


class _Multipliers(View):
    """The multipliers of a point, in which the loss is the negative Lagrangian."""

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

    dual: Inner = inner()

    def views(self, tree: Any) -> dict[str, View]:
        _as_point("primal_dual", "params", tree)
        return {"inner": _Params(), "dual": _Multipliers()}

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(tree.params if name == "inner" else tree.multipliers for tree in trees)

    def movers(self) -> dict[str, GradientTransformation]:
        """The transformation of the parameters alone: `dual` ascends, to which a set means something else."""
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
        dual: Any = multiplier_rate if made else sgd(multiplier_rate)
        return primal_dual(tx, dual)

    def metrics(self, point: LagrangianPoint) -> dict[str, Array]:
        """The `violation` and `complementary_slackness` at a point."""
        found = self.constraints(point.params)
        return {
            "violation": violation(found),
            "complementary_slackness": complementary_slackness(found, point.multipliers),
        }


def _inner(multiplier: Array, values: Any) -> Array:
    return jnp.sum(multiplier * leaf.widen(jnp.asarray(values)))
