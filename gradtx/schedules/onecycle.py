"""One cycle: up to a peak and down again, along lines or half cosines, and on to a much smaller value.

Smith and Topin, 2017, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates". With
init = peak / div_factor and end = init / final_div_factor the points are

    linear:  (0, init), (pct_start * T, peak), (pct_final * T, init), (T, end)
    cosine:  (0, init), (pct_start * T, peak), (T, end)
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.clock import is_whole
from gradtx.schedules.curves import interpolated

__all__ = ["cosine_onecycle_schedule", "linear_onecycle_schedule"]


def _rounded_down(share: Any, steps: Any) -> Any:
    if leaf.is_number(share) and leaf.is_number(steps):
        down = int(share * steps)
        return down if is_whole(down) else float(down)
    return jnp.floor(share * jnp.asarray(steps, jnp.result_type(float)))


def _check_phases(who: str, steps: list[Any]) -> None:
    known = [step for step in steps if leaf.is_number(step)]
    if known != sorted(set(known)):
        raise ValueError(
            f"{who}: the phases end at the steps {', '.join(map(str, known))}, so one of them has no step. "
            "Give more transition_steps, or other shares of them."
        )


class linear_onecycle_schedule(Schedule):
    """Linearly up to `peak_value` at `pct_start * transition_steps`, down, and from `pct_final` on to the end value.

    Step 0 has `peak_value / div_factor`, and so has the end of the second phase; the end value, which is kept, is
    `final_div_factor` times smaller. The shares are in [0, 1], and the steps that they give are rounded down: those
    of traced arguments in the default precision, in which a product may fall on the other side of an integer.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.linear_onecycle_schedule(8, 1.0, 0.5, 0.75, div_factor=4.0, final_div_factor=2.0)(jnp.arange(9)))
    [0.25   0.4375 0.625  0.8125 1.     0.625  0.25   0.1875 0.125 ]

    Raises:
      ValueError: a phase has no step.
    """

    transition_steps: Number = number(gt=0)
    peak_value: Number = number()
    pct_start: Number = number(default=0.3, ge=0, le=1)
    pct_final: Number = number(default=0.85, ge=0, le=1)
    div_factor: Number = number(default=25.0, gt=0)
    final_div_factor: Number = number(default=1e4, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phases("linear_onecycle_schedule", self._boundaries())

    def _boundaries(self) -> list[Any]:
        steps = self.transition_steps
        return [_rounded_down(self.pct_start, steps), _rounded_down(self.pct_final, steps), steps]

    def __call__(self, count: ArrayLike) -> Array:
        init_value = self.peak_value / self.div_factor
        values = [init_value, self.peak_value, init_value, init_value / self.final_div_factor]
        return interpolated(count, self._boundaries(), values, "linear")


class cosine_onecycle_schedule(Schedule):
    """Along half a cosine up to `peak_value` at `pct_start * transition_steps`, along another down to the end value.

    Step 0 has `peak_value / div_factor`; the end value, which is kept, is `final_div_factor` times smaller. The step
    of the peak is rounded down, as in `linear_onecycle_schedule`.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.cosine_onecycle_schedule(6, 1.0, 1 / 3, div_factor=5.0, final_div_factor=2.0)
    >>> print(np.round(np.asarray(schedule(np.arange(7))), 2))
    [0.2  0.6  1.   0.87 0.55 0.23 0.1 ]

    Raises:
      ValueError: a phase has no step.
    """

    transition_steps: Number = number(gt=0)
    peak_value: Number = number()
    pct_start: Number = number(default=0.3, ge=0, le=1)
    div_factor: Number = number(default=25.0, gt=0)
    final_div_factor: Number = number(default=1e4, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phases("cosine_onecycle_schedule", self._boundaries())

    def _boundaries(self) -> list[Any]:
        return [_rounded_down(self.pct_start, self.transition_steps), self.transition_steps]

    def __call__(self, count: ArrayLike) -> Array:
        init_value = self.peak_value / self.div_factor
        values = [init_value, self.peak_value, init_value / self.final_div_factor]
        return interpolated(count, self._boundaries(), values, "cosine")
