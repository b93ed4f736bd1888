"""The line search of Hager and Zhang: secant steps in a bracket, with conditions that rounding cannot hide.

A step ends the search if it fulfils the decrease condition, plain or approximate, and the weak curvature condition. The
bracket [a, b] has phi'(a) < 0, phi(a) <= phi(0) + e |phi(0)| and phi'(b) >= 0. A new point c takes the place

    of b    where phi'(c) >= 0
    of a    where phi'(c) < 0 and phi(c) is as low as an a must be
    else a minimum lies between a and c: [a, c] is cut, at the part theta, until one of its points can be b

The first point is expanded by `increase_factor` until there is a bracket. Then a round takes a secant step of the
slopes at a and b, and from the end that it moved another, through the old and the new slope there; if the bracket is
still longer than `shrink_factor` of what it was, it is halved.

    secant(a, b) = (a phi'(b) - b phi'(a)) / (phi'(b) - phi'(a))

(Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search", section
4, and 2006, "Algorithm 851: CG_DESCENT", for the first step.)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.branch import loop
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.value import choice, integer
from gradtx.curvature.line import Conditions, Line, Point
from gradtx.curvature.linesearch import Best, Linesearch, LinesearchInfo, LinesearchState, where

__all__ = ["HAGER_ZHANG", "scale_by_hager_zhang_linesearch"]

_GUESS, _EXPAND, _CUT, _FIRST, _SECOND, _HALVE = range(6)
"""What a trial is: the point of the guessed parabola, beyond all others, below a hill, a secant step, a middle."""

_PROBE = 0.1
"""The part of the last step at which the parabola is taken (psi_1)."""


class _Search(NamedTuple):
    """The bracket, that at the round's start, the top of a hill to cut below (infinite for none), the next trial."""

    count: Array
    low: Point
    high: Point
    last: tuple[Point, Point]
    top: Array
    trial: Array
    kind: Array
    best: Best
    done: Array


class scale_by_hager_zhang_linesearch(Linesearch):
    """The update, as long as the approximate Wolfe conditions ask.

    Args:
      max_linesearch_steps: points to look at, at most.
      max_learning_rate: the longest step; infinite for none.
      slope_rtol, curv_rtol: c1 and c2.
      approx_dec_rtol: e of the approximate decrease condition.
      cut: theta, the part at which a bracket below a hill is cut.
      shrink_factor: by which a round shortens the bracket at least.
      increase_factor: of a step that is too short.
      initial_guess_strategy: the first try is 'one', the last step ('keep'), or the minimum of a parabola through a
        tenth of the last step, else twice that step ('quadratic').

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum((x - 2.0) ** 2)
    >>> tx = gx.chain(gx.scale(-1.0), gx.scale_by_hager_zhang_linesearch(20))
    >>> x = jnp.zeros(2)
    >>> value, grad = jax.value_and_grad(loss)(x)
    >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=loss)
    >>> print((x + updates).round(2), state[-1].info.failed)
    [2. 2.] False
    """

    max_linesearch_steps: int = integer(ge=1)
    max_learning_rate: Hyper = hyper(default=math.inf, gt=0, infinite=True)
    slope_rtol: Hyper = hyper(default=0.1, gt=0, lt=0.5)
    curv_rtol: Hyper = hyper(default=0.9, gt=0, lt=1)
    approx_dec_rtol: Hyper = hyper(default=1e-6, ge=0)
    cut: Hyper = hyper(default=0.5, gt=0, lt=1)
    shrink_factor: Hyper = hyper(default=0.66, gt=0, lt=1)
    increase_factor: Hyper = hyper(default=5.0, gt=1)
    initial_guess_strategy: str = choice(default="quadratic", options=("one", "keep", "quadratic"))

    def search(self, start: Point, grad: Any, look: Line, state: LinesearchState) -> tuple[Point, Any, LinesearchInfo]:
        conditions = Conditions(start, self.slope_rtol, self.curv_rtol, self.approx_dec_rtol)
        last = jnp.where(state.learning_rate > 0, state.learning_rate, 1)
        # Before there is a last step, one that along a negative gradient has length 1, at most.
        last = jnp.where(state.count > 0, last, 1 / jnp.maximum(1, jnp.sqrt(jnp.abs(start.slope))))
        last = jnp.maximum(last, look.shortest() / _PROBE)
        first, kind = {"one": (jnp.ones_like(last), _EXPAND), "keep": (last, _EXPAND)}.get(
            self.initial_guess_strategy, (_PROBE * last, _GUESS)
        )
        longest = jnp.asarray(self.max_learning_rate, start.step.dtype)
        first, inf = jnp.minimum(first, longest).astype(longest.dtype), jnp.full_like(longest, jnp.inf)
        nowhere = start._replace(step=inf)
        begin = _Search(
            jnp.zeros((), jnp.int32),
            start,
            nowhere,
            (start, nowhere),
            inf,
            first,
            jnp.asarray(kind, jnp.int32),
            Best.none(start, grad),
            conditions.hopeless(),
        )

        def go_on(search: _Search) -> Array:
            return ~search.done & (search.count < self.max_linesearch_steps)

        end = loop(go_on, lambda search: self._try(search, conditions, look, longest), begin)
        return end.best.point, end.best.grad, end.best.info(end.count)

    def _try(self, search: _Search, conditions: Conditions, look: Any, longest: Array) -> _Search:
        point, grad = look(search.trial)
        decrease, curvature = conditions.decrease_error(point), conditions.curvature_error(point, strong=False)
        best, both = search.best.or_that(point, grad, decrease, curvature, 0.0)

        finite = jnp.isfinite(point.value) & jnp.isfinite(point.slope)
        up = finite & (point.slope >= 0)
        down = finite & ~up & (point.value <= conditions.start.value + conditions.rounding())
        low, high = where(down, point, search.low), where(up, point, search.high)
        top = jnp.where(up, jnp.inf, jnp.where(down, search.top, point.step))
        trial, kind, last = self._next(search, conditions, low, high, top, up)

        guessing = (search.kind == _GUESS) & ~up
        at_end = down & (point.step >= longest)
        eps = jnp.finfo(longest.dtype).eps
        narrow = jnp.isfinite(high.step) & (high.step - low.step <= 4 * eps * high.step)
        return _Search(
            search.count + 1,
            low,
            high,
            last,
            top.astype(longest.dtype),
            jnp.minimum(trial, longest).astype(longest.dtype),
            kind.astype(jnp.int32),
            best,
            (both & ~guessing) | at_end | narrow,
        )

    def _next(
        self, search: _Search, conditions: Conditions, low: Point, high: Point, top: Array, up: Array
    ) -> tuple[Array, Array, tuple[Point, Point]]:
        """The next trial, its kind, and the bracket at the start of its round."""

        def inside(step: Array) -> Array:
            return (low.step < step) & (step < high.step)

        last_low, last_high = search.last
        width, middle = high.step - low.step, low.step + (high.step - low.step) / 2
        first = _secant(low, high)
        first = jnp.where(inside(first), first, middle)
        second = jnp.where(up, _secant(last_high, high), _secant(last_low, low))
        hill, open_end = jnp.isfinite(top), ~jnp.isfinite(high.step)
        again = (search.kind == _FIRST) & inside(second)
        slow = (search.kind >= _CUT) & (search.kind != _HALVE)
        slow &= width > self.shrink_factor * (last_high.step - last_low.step)

        # The parabola through the first value and slope and the value at the probe, if it opens upwards.
        start = conditions.start
        probe = search.trial
        above = low.value - start.value - start.slope * probe
        guess = -start.slope * probe * probe / jnp.where(above > 0, 2 * above, 1)
        guess = jnp.where((above > 0) & (guess > probe), guess, 2 / _PROBE * probe)

        trials = [
            (hill, low.step + self.cut * (top - low.step), _CUT),
            (open_end & (search.kind == _GUESS), guess, _EXPAND),
            (open_end, self.increase_factor * search.trial, _EXPAND),
            (again, second, _SECOND),
            (slow, middle, _HALVE),
        ]
        conds = [cond for cond, _, _ in trials]
        trial = jnp.select(conds, [step for _, step, _ in trials], first)
        kind = jnp.select(conds, [jnp.asarray(kind) for _, _, kind in trials], jnp.asarray(_FIRST))
        return trial, kind, where(kind == _FIRST, (low, high), search.last)


def _secant(a: Point, b: Point) -> Array:
    bend = b.slope - a.slope
    return (a.step * b.slope - b.step * a.slope) / jnp.where(bend == 0, 1, bend)


HAGER_ZHANG = scale_by_hager_zhang_linesearch(50, slope_rtol=0.01, curv_rtol=0.1)
"""The search of the conjugate gradient methods, whose steps have no length of their own, and must be near a minimum."""
