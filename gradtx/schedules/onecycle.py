"""One-cycle schedules: a rise to a peak, a fall back, and a further fall to a much smaller value.

With init = peak / div_factor and end = init / final_div_factor, lines or half cosines connect the points (step, value)

    linear:  (0, init), (pct_start * T, peak), (pct_final * T, init), (T, end)
    cosine:  (0, init), (pct_start * T, peak), (T, end)

Smith and Topin, 2017, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates".
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


def _check_phases(who: str, steps: list[Any], fractions: str) -> None:
    known = [step for step in steps if leaf.is_number(step)]
    if known != sorted(set(known)):
        raise ValueError(
            f"{who}: the phases end at steps {', '.join(map(str, known))}, so one phase has no steps. Increase "
            f"transition_steps, or change {fractions}."
        )


class linear_onecycle_schedule(Schedule):
    """Raises the learning rate linearly to a peak, lowers it back, then lowers it to a much smaller value.

    The value rises from `peak_value / div_factor` to `peak_value`, falls back to the first value, and then falls to the
    first value divided by `final_div_factor`. Use it for short runs of known length with a large peak
    ("super-convergence").

    Args:
      transition_steps: Number of steps of the whole schedule; the last value is kept afterwards. Positive.
      peak_value: The largest value.
      pct_start: Position of the peak, as a fraction of `transition_steps`. In [0, 1]; 0.3 by default.
      pct_final: Beginning of the last phase, as a fraction of `transition_steps`. In [0, 1]; 0.85 by default.
      div_factor: Ratio of `peak_value` to the value at step 0. Positive; 25 by default.
      final_div_factor: Ratio of the value at step 0 to the last value. Positive; 1e4 by default.

    The ends of the phases are rounded down to whole steps. If an argument is traced, the product with
    `transition_steps` is rounded to JAX's default float dtype first, so a phase may end one step earlier or later.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.linear_onecycle_schedule(8, 1.0, 0.5, 0.75, div_factor=4.0, final_div_factor=2.0)(jnp.arange(9)))
    [0.25   0.4375 0.625  0.8125 1.     0.625  0.25   0.1875 0.125 ]

    Raises:
      ValueError: a phase is shorter than one step.

    References:
      Smith and Topin, 2017, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates".
    """

    transition_steps: Number = number(gt=0)
    peak_value: Number = number()
    pct_start: Number = number(default=0.3, ge=0, le=1)
    pct_final: Number = number(default=0.85, ge=0, le=1)
    div_factor: Number = number(default=25.0, gt=0)
    final_div_factor: Number = number(default=1e4, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phases("linear_onecycle_schedule", self._boundaries(), "pct_start or pct_final")

    def _boundaries(self) -> list[Any]:
        steps = self.transition_steps
        return [_rounded_down(self.pct_start, steps), _rounded_down(self.pct_final, steps), steps]

    def __call__(self, count: ArrayLike) -> Array:
        init_value = self.peak_value / self.div_factor
        values = [init_value, self.peak_value, init_value, init_value / self.final_div_factor]
        return interpolated(count, self._boundaries(), values, "linear")


class cosine_onecycle_schedule(Schedule):
    """Raises the learning rate to a peak, then lowers it to a much smaller value, both along half a cosine.

    The value rises from `peak_value / div_factor` to `peak_value` and ends at `peak_value / (div_factor *
    final_div_factor)`. Use it for short runs of known length with a large peak.

    Args:
      transition_steps: Number of steps of the whole schedule; the last value is kept afterwards. Positive.
      peak_value: The largest value.
      pct_start: Position of the peak, as a fraction of `transition_steps`; rounded down to a whole step. In [0, 1]; 0.3
        by default.
      div_factor: Ratio of `peak_value` to the value at step 0. Positive; 25 by default.
      final_div_factor: Ratio of the value at step 0 to the last value. Positive; 1e4 by default.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.cosine_onecycle_schedule(6, 1.0, 1 / 3, div_factor=5.0, final_div_factor=2.0)
    >>> print(np.round(np.asarray(schedule(np.arange(7))), 2))
    [0.2  0.6  1.   0.87 0.55 0.23 0.1 ]

    Raises:
      ValueError: a phase is shorter than one step.

    References:
      Smith and Topin, 2017, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates".
    """

    transition_steps: Number = number(gt=0)
    peak_value: Number = number()
    pct_start: Number = number(default=0.3, ge=0, le=1)
    div_factor: Number = number(default=25.0, gt=0)
    final_div_factor: Number = number(default=1e4, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_phases("cosine_onecycle_schedule", self._boundaries(), "pct_start")

    def _boundaries(self) -> list[Any]:
        return [_rounded_down(self.pct_start, self.transition_steps), self.transition_steps]

    def __call__(self, count: ArrayLike) -> Array:
        init_value = self.peak_value / self.div_factor
        values = [init_value, self.peak_value, init_value / self.final_div_factor]
        return interpolated(count, self._boundaries(), values, "cosine")
