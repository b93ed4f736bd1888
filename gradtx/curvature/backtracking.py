"""The backtracking line search: shrink the step until it decreases enough (Armijo, 1966)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.core.branch import loop
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.value import flag, integer
from gradtx.curvature.line import Conditions, Point
from gradtx.curvature.linesearch import Linesearch, LinesearchInfo, LinesearchState, where

__all__ = ["scale_by_backtracking_linesearch"]


class scale_by_backtracking_linesearch(Linesearch):
    """The update, shrunk until the value decreases enough.

    Args:
      max_backtracking_steps: how often the first step may be shrunk.
      slope_rtol: c1, in [0, 1); with 0 any decrease will do.
      decrease_factor, increase_factor: of a step that is too long, and of the last one for the first try. An infinite
        `increase_factor` begins each search at `max_learning_rate`.
      max_learning_rate: the longest step.
      atol, rtol: by how much, absolute and relative to the value, it may increase.
      store_grad: keep the gradient at the new point too, at the cost of one more evaluation.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum(x**2)
    >>> tx = gx.chain(gx.sgd(10.0), gx.scale_by_backtracking_linesearch(20))
    >>> x = jnp.ones(2)
    >>> value, grad = jax.value_and_grad(loss)(x)
    >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=loss)
    >>> print(bool(loss(x + updates) < value), state[-1].info.failed)
    True False
    """

    max_backtracking_steps: int = integer(ge=1)
    slope_rtol: Hyper = hyper(default=1e-4, ge=0, lt=1)
    decrease_factor: Hyper = hyper(default=0.8, gt=0, lt=1)
    increase_factor: Hyper = hyper(default=1.5, ge=1, infinite=True)
    max_learning_rate: Hyper = hyper(default=1.0, gt=0, infinite=True)
    atol: Hyper = hyper(default=0.0, ge=0)
    rtol: Hyper = hyper(default=0.0, ge=0)
    store_grad: bool = flag(default=False)

    @property
    def keeps_grad(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.store_grad

    def search(
        self, start: Point, grad: Any, look: Callable[[Array], tuple[Point, Any]], state: LinesearchState
    ) -> tuple[Point, Any, LinesearchInfo]:
        def value_at(step: Array) -> Point:
            return look(step)[0]._replace(slope=start.slope)  # its slope is not needed, so no gradient is computed

        conditions = Conditions(start, self.slope_rtol, 0.0)
        last = jnp.where(state.learning_rate > 0, state.learning_rate, 1)
        first = jnp.minimum(last * self.increase_factor, self.max_learning_rate)
        first = jnp.where(jnp.isfinite(first), first, last).astype(start.step.dtype)

        def error(point: Point) -> Array:
            return jnp.maximum(conditions.decrease_error(point) - self.rtol * jnp.abs(start.value) - self.atol, 0)

        def shrink(carry: tuple[Array, Point]) -> tuple[Array, Point]:
            tries, point = carry
            return tries + 1, value_at(point.step * self.decrease_factor)

        def go_on(carry: tuple[Array, Point]) -> Array:
            tries, point = carry
            return (error(point) > 0) & (tries <= self.max_backtracking_steps)

        tries, point = loop(go_on, shrink, (jnp.ones((), jnp.int32), value_at(first)))
        failed = error(point) > 0
        info = LinesearchInfo(tries, conditions.decrease_error(point), jnp.full_like(start.value, jnp.inf), failed)
        point = where(failed, start, point)
        if self.store_grad:
            grad = where(failed, grad, look(point.step)[1])
        return point, grad if self.store_grad else (), info
