"""Line searches as links of a chain: they choose how far to go along an update.

A line search follows a descent direction in a chain and needs `value`, `grad` and `value_fn` as extra arguments of
`update`. It keeps the value and gradient at the new point, which `value_and_grad_from_state` reuses. `info` in its
state says how the search ended.

If no step meets the conditions on the slope, the search takes the best step that decreases the value enough. If
there is no such step either, the update is zero and `info.failed` is True: a search never increases the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.branch import branch
from gradtx.core.chain import chain
from gradtx.core.hyper import HyperArg
from gradtx.core.metrics import find, reports
from gradtx.core.slots import counter, per_param, per_tree
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import GradientTransformation
from gradtx.curvature.line import Line, Point, value_and_grad
from gradtx.transforms.scale import scale, scale_by_learning_rate
from gradtx.types import Params, State, Updates

__all__ = [
    "Best",
    "Linesearch",
    "LinesearchInfo",
    "LinesearchState",
    "descending",
    "value_and_grad_from_state",
    "where",
]


class LinesearchInfo(NamedTuple):
    """How a line search ended.

    Fields:
      num_linesearch_steps: Number of points that were evaluated.
      decrease_error, curvature_error: By how much the chosen step misses the two conditions; 0 if it meets them.
      failed: Whether no acceptable step was found, so that the update is zero.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.scale_by_zoom_linesearch(20).init(jnp.zeros(2)).info.failed)
    False
    """

    num_linesearch_steps: Array
    decrease_error: Array
    curvature_error: Array
    failed: Array


@reports("learning_rate")
class LinesearchState(NamedTuple):
    """State of a line search: the last step size, value and gradient at the new point, and how the search ended.

    `learning_rate` is the step size that was chosen. `value` is infinite before the first step, and `grad` is () if
    the search does not keep the gradient. `info` is a `LinesearchInfo`, `count` the number of updates.
    """

    learning_rate: Array = per_tree(start=1.0, signed=False)
    value: Array = per_tree(start=math.inf)
    grad: Array = per_param(when="keeps_grad")
    info: LinesearchInfo = per_tree(start="first_info")
    count: Array = counter()


class Best(NamedTuple):
    """The best step seen so far, with the gradient there and its errors in the two conditions; step 0 if there is
    none.
    """

    point: Point
    grad: Any
    decrease_error: Array
    curvature_error: Array

    @classmethod
    def none(cls, start: Point, grad: Any) -> Best:
        inf = jnp.full_like(start.value, jnp.inf)
        return cls(start, grad, inf, inf)

    @property
    def found(self) -> Array:
        return self.point.step > 0

    def or_that(
        self, point: Point, grad: Any, decrease_error: Array, curvature_error: Array, tol: Any
    ) -> tuple[Best, Array]:
        """Returns the better of this step and `point`, and whether `point` meets both conditions."""
        good = decrease_error <= tol
        both = good & (curvature_error <= tol)
        take = both | (good & (~self.found | (point.value < self.point.value)))
        errors = where(take | ~self.found, (decrease_error, curvature_error), self[2:])
        return Best(*where(take, (point, grad), self[:2]), *errors), both

    def info(self, count: Array) -> LinesearchInfo:
        return LinesearchInfo(count, self.decrease_error, self.curvature_error, ~self.found)


class Linesearch(Stateful, state=LinesearchState, needs=("params", "value", "grad", "value_fn")):
    """Base class of line searches, which choose how far to go along an update. Subclasses define `search`.

    `update` needs params, `value`, `grad` and `value_fn`; the state keeps the gradient at the new point.
    """

    keeps_grad = True
    """Whether the state keeps the gradient at the new point."""

    def first_info(self, params: Params) -> LinesearchInfo:
        """Returns the info of a search that has not evaluated any point."""
        inf = tree.number(params, math.inf)
        return LinesearchInfo(jnp.zeros((), jnp.int32), inf, inf + 0, jnp.array(False))

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, LinesearchState]:
        if not jax.tree.leaves(updates):
            return updates, state._replace(count=counted(state.count))
        checks.same_tree(type(self).__name__, "grad", extra["grad"], "params", params)
        dtype = state.value.dtype
        value, slope = jnp.asarray(extra["value"]).astype(dtype), tree.real_vdot(extra["grad"], updates).astype(dtype)
        start = Point(jnp.zeros((), dtype), value, slope)
        look = Line(extra["value_fn"], params, updates, dtype)
        grad = jax.tree.map(lambda g, p: jnp.asarray(g).astype(jnp.result_type(p)), extra["grad"], params)
        point, grad, info = self._now(state.count, dtype).search(start, grad, look, state)
        step = point.step
        scaled = jax.tree.map(lambda u: leaf.narrow(_times(u, step), jnp.result_type(u)), updates)
        kept = jax.tree.map(leaf.widen, grad)
        return scaled, LinesearchState(
            count=counted(state.count), learning_rate=step, value=point.value, grad=kept, info=info
        )

    def _now(self, count: Any, dtype: Any) -> Self:
        """Returns the search with the hyperparameters of this step, as arrays in the dtype of the points."""
        now = self.at(count)
        narrow = {name: x.astype(dtype) for name in self._own() if isinstance(x := getattr(now, name), Array)}
        return now._filled(list(narrow), list(narrow.values()))

    def search(
        self, start: Point, grad: Any, look: Callable[[Array], tuple[Point, Any]], state: LinesearchState
    ) -> tuple[Point, Any, LinesearchInfo]:
        """Returns the point to go to, the gradient there, and how the search ended.

        `look(step)` returns the `Point` at a step and the gradient there; `grad` is the gradient at `start`.
        """
        raise TypeError(f"{type(self).__name__} must define search(self, start, grad, look, state).")


def _times(u: Any, step: Array) -> Array:
    wide = leaf.widen(jnp.asarray(u))
    return wide * step.astype(leaf.compute_dtype(wide.dtype))


def where(pred: Array, a: Any, b: Any) -> Any:
    """Selects one of two trees."""
    return jax.tree.map(lambda x, y: jnp.where(pred, x, y), a, b)


def descending(rule: GradientTransformation, learning_rate: HyperArg | None, linesearch: Any) -> chain:
    """Returns a chain of the rule, the learning rate (None for 1) and the line search, if there is one."""
    rate = scale(-1.0) if learning_rate is None else scale_by_learning_rate(learning_rate)
    return chain(rule, rate, *(() if linesearch is None else (linesearch,)))


def value_and_grad_from_state(value_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `jax.value_and_grad(value_fn)` that reuses what the last line search already computed.

    A line search ends with the value and gradient at the new point. The returned function takes an argument `state`
    and looks them up there, so that each step saves one evaluation. Use it for deterministic functions only: with a
    new batch the kept values are those of the old one. Gradients of complex leaves are conjugated, so that their
    negative descends.

    Args:
      value_fn: The function that the line search gets as `value_fn`; its first argument is the parameters.

    Returns:
      A function `(params, *args, state, **kwargs) -> (value, grad)`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum(x**2)
    >>> tx = gx.chain(gx.sgd(0.1), gx.scale_by_zoom_linesearch(20))
    >>> x = jnp.ones(2)
    >>> value, grad = gx.value_and_grad_from_state(loss)(x, state=tx.init(x))
    >>> print(value)
    2.0

    Raises:
      ValueError: when the returned function is called and the state has no line search that keeps a gradient, or
        several.
    """

    def from_state(params: Params, *args: Any, state: State, **kwargs: Any) -> tuple[Any, Any]:
        kept = [part for _, part in find(state, LinesearchState) if jax.tree.leaves(part.grad)]
        if len(kept) != 1:
            raise ValueError(
                f"value_and_grad_from_state: {len(kept)} line searches in the state keep a gradient, but exactly one "
                "must. End the chain with gx.scale_by_zoom_linesearch(20), or set store_grad for a backtracking one."
            )
        (part,) = kept

        def anew() -> tuple[Any, Any]:
            return value_and_grad(value_fn)(params, *args, **kwargs)

        like = jax.eval_shape(anew)
        known = jax.tree.map(lambda x, y: x.astype(y.dtype), (part.value, part.grad), like)
        return branch("value_and_grad_from_state", ~jnp.isfinite(part.value), anew, lambda: known)

    return from_state
