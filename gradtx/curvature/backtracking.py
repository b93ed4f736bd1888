"""The backtracking line search: shrinks the step until the value decreases enough (Armijo, 1966)."""

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
    """Shrinks the update until the value decreases enough (Armijo's condition).

    Put it after a direction whose natural step size is 1 or at least known in magnitude. It evaluates only values,
    no gradients, so its trials are cheap. The accepted step size a satisfies, for the update u,

        f(x + a u) <= f(x) + slope_rtol * a * <grad f(x), u> + rtol * |f(x)| + atol

    Put it last in a chain. `update` needs params, `value`, `grad` and `value_fn`.

    Args:
      max_backtracking_steps: How often the first step may be shrunk before the search fails. At least 1.
      slope_rtol: Fraction of the decrease predicted by the slope that is required; 0 accepts any decrease. In [0,
        1); 1e-4 by default.
      decrease_factor: Factor by which a step that is too long is shrunk. In (0, 1); 0.8 by default.
      increase_factor: Ratio of the first trial to the last accepted step. At least 1; 1.5 by default. If infinite,
        each search begins at `max_learning_rate`.
      max_learning_rate: The longest step that is tried. Positive, may be infinite; 1 by default.
      atol: By how much the value may increase, absolute. Not negative; 0 by default.
      rtol: By how much the value may increase, relative to the value. Not negative; 0 by default.
      store_grad: Whether to keep the gradient at the new point for `value_and_grad_from_state`, at the cost of one
        evaluation. False by default.

    Returns:
      A transformation with a few numbers as state; with `store_grad` also one array per parameter (4 bytes in
      float32).

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
    def keeps_grad(self) -> bool:
        return self.store_grad

    def search(
        self, start: Point, grad: Any, look: Callable[[Array], tuple[Point, Any]], state: LinesearchState
    ) -> tuple[Point, Any, LinesearchInfo]:
        def value_at(step: Array) -> Point:
            return look(step)[0]._replace(slope=start.slope)  # the slope here is not needed, so no gradient is computed

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
