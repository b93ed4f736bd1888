"""The line search of Hager and Zhang: secant steps in a bracket, with conditions that hold up under rounding.

A step ends the search if it meets the decrease condition, exact or approximate, and the weak curvature condition.
The bracket [a, b] has phi'(a) < 0, phi(a) <= phi(0) + e |phi(0)| and phi'(b) >= 0. A new point c

    replaces b    if phi'(c) >= 0
    replaces a    if phi'(c) < 0 and phi(c) is low enough for an a
    otherwise     a minimum lies between a and c: [a, c] is cut at the fraction theta, until a point can replace b

The first step is extended by `increase_factor` until there is a bracket. A round then takes a secant step from the
slopes at a and b, and a second one from the old and the new slope at the end that moved. If the bracket is still
longer than `shrink_factor` of its former length, it is halved.

    secant(a, b) = (a phi'(b) - b phi'(a)) / (phi'(b) - phi'(a))

(Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search",
section 4, and 2006, "Algorithm 851: CG_DESCENT", for the first step.)
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
"""The kinds of trials: probing for the parabola, extending, cutting below a hill, two secant steps, halving."""

_PROBE = 0.1
"""Fraction of the previous step at which the parabola is probed (psi_1)."""


class _Search(NamedTuple):
    """The bracket now and at the start of the round, the top of a hill below which to cut (or infinity), the next
    trial.
    """

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
    """Scales the update by a step size that satisfies the approximate Wolfe conditions.

    The default search of `nonlinear_cg`, whose directions have no natural length. It is more exact than the zoom
    search near a minimum, where rounding hides the decrease of the values.

    Put it last in a chain. `update` needs params, `value`, `grad` and `value_fn`. If no step is found the update is
    zero, and `info.failed` in the state is True.

    Args:
      max_linesearch_steps: How many points are evaluated at most. At least 1; 20 to 50 are plenty.
      max_learning_rate: The longest step. Positive; infinite (default) for no limit.
      slope_rtol: Fraction of the decrease predicted by the slope that is required (c1). In (0, 0.5); 0.1 by
        default.
      curv_rtol: How far the slope must be reduced (c2); smaller is more exact and dearer. In (0, 1); 0.9 by
        default.
      approx_dec_rtol: By how much, relative to the value, a step may increase the value if its slope shows a
        decrease. Not negative; 1e-6 by default.
      cut: Where a bracket whose value rises is cut, as a fraction of its length. In (0, 1); 0.5 by default.
      shrink_factor: By how much a round must shorten the bracket; otherwise it is halved. In (0, 1); 0.66 by
        default.
      increase_factor: Factor by which a step that is too short is extended. Greater than 1; 5 by default.
      initial_guess_strategy: The first trial. "quadratic" (default) takes the minimum of a parabola through a tenth
        of the previous step, or twice that step if there is no minimum; "keep" uses the previous step, "one" uses 1.

    Returns:
      A transformation whose state is one array per parameter, the gradient at the new point (4 bytes in float32),
      and a few numbers.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum((x - 2.0) ** 2)
    >>> tx = gx.chain(gx.scale(-1.0), gx.scale_by_hager_zhang_linesearch(20))
    >>> x = jnp.zeros(2)
    >>> value, grad = jax.value_and_grad(loss)(x)
    >>> updates, state = tx.update(grad, tx.init(x), x, value=value, grad=grad, value_fn=loss)
    >>> print((x + updates).round(2), state[-1].info.failed)
    [2. 2.] False

    References:
      Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search".
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
        # Without a previous step: a step that along a negative gradient has a length of at most 1.
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
        """Returns the next trial, its kind, and the bracket at the start of its round."""

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
"""The default search of the conjugate gradient methods, whose directions have no natural length.

They need steps close to a minimum along the line, hence the small tolerances."""
