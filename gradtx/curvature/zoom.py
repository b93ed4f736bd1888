"""The zoom line search for the strong Wolfe conditions.

The step is extended until it brackets a minimum; then cubics through values and slopes narrow the bracket (Nocedal
and Wright, 2006, "Numerical Optimization", algorithms 3.5 and 3.6). A bracket that does not shrink is halved.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.branch import loop
from gradtx.core.hyper import Hyper, Limits, hyper
from gradtx.core.value import choice, field, integer, static
from gradtx.curvature.line import Conditions, Line, Point
from gradtx.curvature.linesearch import Best, Linesearch, LinesearchInfo, LinesearchState, where

__all__ = ["STRONG_WOLFE", "scale_by_zoom_linesearch"]


class _Zoom(NamedTuple):
    """The bracket from `low`, the better end, to `high`; the next step to try; and the best step seen."""

    count: Array
    low: Point
    high: Point
    bracketed: Array
    width: Array
    trial: Array
    best: Best
    done: Array


def _or_infinite(who: str, name: str, value: Any) -> Any:
    return Limits(gt=0, infinite=True).check(who, name, math.inf if value is None else value)


def _check_rtol(who: str, name: str, value: Any) -> Any:
    return Limits(ge=0).check(who, name, value, schedules=False, optional=True)


class scale_by_zoom_linesearch(Linesearch):
    """Scales the update by a step size that satisfies the strong Wolfe conditions.

    The default search of the quasi-Newton methods (`lbfgs`, `bfgs`, `newton_cg`): its steps keep their curvature
    estimates positive. With phi(a) = f(x + a u), it looks for an a with

        phi(a) <= phi(0) + slope_rtol * a * phi'(0)    and    |phi'(a)| <= curv_rtol * |phi'(0)|

    Put it last in a chain. `update` needs params, `value`, `grad` and `value_fn`. If no step is found the update is
    zero, and `info.failed` in the state is True.

    Args:
      max_linesearch_steps: How many points are evaluated at most. At least 1; 20 are plenty.
      max_learning_rate: The longest step. Positive; None or infinity (default) for no limit.
      tol: By how much the conditions may be missed, absolute. Not negative; 0 by default.
      increase_factor: Factor by which a step that is too short is extended. Greater than 1; 2 by default.
      slope_rtol: Fraction of the decrease predicted by the slope that is required. In (0, 0.5); 1e-4 by default.
      curv_rtol: How far the slope must be reduced; a smaller one gives a more exact and dearer search. In (0, 1);
        0.9 by default.
      approx_dec_rtol: By how much, relative to the value, a step may increase the value if its slope shows a
        decrease; this helps where rounding hides the decrease. Not negative; 1e-6 by default, None to do without.
      stepsize_precision: Stop when the bracket is shorter than this fraction of its longer end. Not negative; 1e-5
        by default.
      initial_guess_strategy: The first trial: "keep" (default) for the last step size, or "one", which suits
        directions that have a natural length, such as Newton's.

    Returns:
      A transformation whose state is one array per parameter, the gradient at the new point (4 bytes in float32),
      and a few numbers.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum(jnp.cosh(x))
    >>> tx = gx.chain(gx.scale(-1.0), gx.scale_by_zoom_linesearch(20, curv_rtol=0.01))
    >>> x = jnp.full(2, 3.0)
    >>> value, grad = jax.value_and_grad(loss)(x)
    >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=loss)
    >>> print(bool(jnp.all(jnp.abs(x + updates) < 0.1)), state[-1].info.failed)
    True False
    """

    max_linesearch_steps: int = integer(ge=1)
    max_learning_rate: Hyper = field(_or_infinite, dynamic=True, default=math.inf)
    tol: Hyper = hyper(default=0.0, ge=0)
    increase_factor: Hyper = hyper(default=2.0, gt=1)
    slope_rtol: Hyper = hyper(default=1e-4, gt=0, lt=0.5)
    curv_rtol: Hyper = hyper(default=0.9, gt=0, lt=1)
    approx_dec_rtol: float | None = static(default=1e-6, check=_check_rtol)
    stepsize_precision: Hyper = hyper(default=1e-5, ge=0)
    initial_guess_strategy: str = choice(default="keep", options=("one", "keep"))

    def search(self, start: Point, grad: Any, look: Line, state: LinesearchState) -> tuple[Point, Any, LinesearchInfo]:
        dtype = start.step.dtype
        conditions = Conditions(start, self.slope_rtol, self.curv_rtol, self.approx_dec_rtol)
        longest = jnp.asarray(self.max_learning_rate, dtype)
        keep = (state.learning_rate > 0) & (self.initial_guess_strategy == "keep")
        first = jnp.maximum(jnp.where(keep, state.learning_rate, 1), look.shortest())
        first = jnp.minimum(first, longest).astype(dtype)
        inf, no = jnp.full((), jnp.inf, dtype), jnp.array(False)
        begin = _Zoom(
            jnp.zeros((), jnp.int32), start, start, no, inf, first, Best.none(start, grad), conditions.hopeless()
        )

        def go_on(zoom: _Zoom) -> Array:
            return ~zoom.done & (zoom.count < self.max_linesearch_steps)

        end = loop(go_on, lambda zoom: self._try(zoom, conditions, look, longest), begin)
        return end.best.point, end.best.grad, end.best.info(end.count)

    def _try(self, zoom: _Zoom, conditions: Conditions, look: Any, longest: Array) -> _Zoom:
        point, grad = look(zoom.trial)
        decrease, curvature = conditions.decrease_error(point), conditions.curvature_error(point)
        best, both = zoom.best.or_that(point, grad, decrease, curvature, self.tol)
        good = decrease <= self.tol

        rounding = conditions.rounding()
        above = ~good | ((point.value > zoom.low.value + rounding) & (zoom.count > 0))
        ahead = jnp.where(zoom.bracketed, zoom.high.step - zoom.low.step, 1)
        turned = ~above & (point.slope * ahead >= 0)
        high = where(above, point, where(turned, zoom.low, zoom.high))
        low = where(above, zoom.low, point)
        bracketed = zoom.bracketed | above | turned

        width = jnp.abs(high.step - low.step)
        inside = _minimum_of_cubic(low, high, bisect=bracketed & (width > 0.6 * zoom.width))
        wider = jnp.minimum(point.step * self.increase_factor, longest)
        at_end = ~bracketed & (point.step >= longest)
        narrow = bracketed & (width <= self.stepsize_precision * jnp.maximum(low.step, high.step)) & best.found
        return _Zoom(
            zoom.count + 1,
            low,
            high,
            bracketed,
            jnp.where(bracketed, width, jnp.inf).astype(width.dtype),
            jnp.where(bracketed, inside, wider).astype(width.dtype),
            best,
            both | at_end | narrow,
        )


STRONG_WOLFE = scale_by_zoom_linesearch(20, initial_guess_strategy="one")
"""The default line search of the quasi-Newton methods; it first tries their own step, of length 1."""


def _minimum_of_cubic(low: Point, high: Point, bisect: Array) -> Array:
    """Returns the minimum of the cubic through both ends, at least a tenth away from them, or the middle if there
    is none.
    """
    width = high.step - low.step
    some = jnp.where(width == 0, 1, width)
    d1 = low.slope + high.slope - 3 * (high.value - low.value) / some
    square = d1 * d1 - low.slope * high.slope
    d2 = jnp.sign(some) * jnp.sqrt(jnp.where(square > 0, square, 0))
    below = high.slope - low.slope + 2 * d2
    share = 1 - (high.slope + d2 - d1) / jnp.where(below == 0, 1, below)
    fits = jnp.isfinite(share) & (square >= 0) & (below != 0) & ~bisect
    return low.step + width * jnp.where(fits, jnp.clip(share, 0.1, 0.9), 0.5)
