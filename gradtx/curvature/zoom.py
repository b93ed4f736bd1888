"""The zoom line search for the strong Wolfe conditions.

The step is widened until a minimum is bracketed; then cubics through values and slopes zoom in on it (Nocedal and
Wright, 2006, "Numerical Optimization", algorithms 3.5 and 3.6). A bracket that does not shrink is halved.
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
    """A bracket from `low`, the better end, to `high`, the next step to try, and the best that was seen."""

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
    """The update, as long as the strong Wolfe conditions ask.

    Args:
      max_linesearch_steps: points to look at, at most.
      max_learning_rate: the longest step; None, like infinity, for none.
      tol: by how much the conditions may be missed.
      increase_factor: of a step that is too short.
      slope_rtol, curv_rtol: c1 and c2.
      approx_dec_rtol: e of the approximate decrease condition, or None to go without.
      stepsize_precision: a bracket shorter than this part of its end is not looked into.
      initial_guess_strategy: the first try is 'one', or the last step ('keep').

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
"""The search of the quasi-Newton methods, whose first try is their own step."""


def _minimum_of_cubic(low: Point, high: Point, bisect: Array) -> Array:
    """The minimum of the cubic through both ends, a tenth away from them, or the middle where there is none."""
    width = high.step - low.step
    some = jnp.where(width == 0, 1, width)
    d1 = low.slope + high.slope - 3 * (high.value - low.value) / some
    square = d1 * d1 - low.slope * high.slope
    d2 = jnp.sign(some) * jnp.sqrt(jnp.where(square > 0, square, 0))
    below = high.slope - low.slope + 2 * d2
    share = 1 - (high.slope + d2 - d1) / jnp.where(below == 0, 1, below)
    fits = jnp.isfinite(share) & (square >= 0) & (below != 0) & ~bisect
    return low.step + width * jnp.where(fits, jnp.clip(share, 0.1, 0.9), 0.5)
