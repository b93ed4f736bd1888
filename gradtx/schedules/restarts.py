"""Cosine decay with restarts, in cycles that may become longer, with or without a warm-up in each cycle.

    eta_t = end + (peak_i - end) * (1 + cos(pi s)) / 2

Here s runs from 0 to 1 over cycle i, or over the rest of cycle i after its warm-up. The length of the next cycle is
T_(i+1) = (T_i - warmup) * multiplier + warmup. Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with
Warm Restarts".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.clock import power, share
from gradtx.schedules.cosine import warmup_cosine_decay_schedule
from gradtx.schedules.curves import half_cosine
from gradtx.schedules.cycles import cycle
from gradtx.schedules.join import join_schedules

__all__ = ["cosine_restarts_schedule", "cosine_warmup_restarts_schedule", "sgdr_schedule"]


class cosine_restarts_schedule(Schedule):
    """Decays the learning rate along half a cosine, and restarts at `init_value` after each cycle.

    Use it for runs whose length is not known in advance: the end of every cycle is a good point to stop or to evaluate.
    If `multiplier` is not the number 1, each call loops over the cycles so far (with multiplier 2, 20 cycles after a
    million times `period` steps).

    Args:
      init_value: The value at the beginning of every cycle.
      period: Number of steps of the first cycle. At least 1; need not be an integer.
      multiplier: Ratio of the length of each cycle to the length of the previous cycle. At least 1; 1 by default.
      end_value: The value that each cycle approaches; a new cycle begins at the step that would reach this value. 0 by
        default.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.cosine_restarts_schedule(1.0, period=2, multiplier=2)(np.arange(8))), 2))
    [1.   0.5  1.   0.85 0.5  0.15 1.   0.96]

    References:
      Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".
    """

    init_value: Number = number()
    period: Number = number(ge=1)
    multiplier: Number = number(default=1, ge=1)
    end_value: Number = number(default=0.0)

    def __call__(self, count: ArrayLike) -> Array:
        now = cycle(count, self.period, self.multiplier)
        cosine = half_cosine(jnp.clip(now.left / now.length, 0, 1))
        return (self.init_value - self.end_value) * cosine + self.end_value


class cosine_warmup_restarts_schedule(Schedule):
    """Repeats cycles of a linear warm-up and a decay along half a cosine; the peaks may shrink.

    In every cycle the value rises from `init_value` to the peak and falls back towards `init_value`. If
    `multiplier` is not the number 1, each call loops over the cycles so far.

    Args:
      init_value: The value at the beginning of every cycle. Without a warm-up, every cycle begins at its peak instead.
      period: Number of steps of the first cycle, including its warm-up. At least 1.
      multiplier: Ratio of the number of steps after the warm-up to the same number in the previous cycle. At least 1.
      peak_value: The peak of the first cycle.
      warmup: Number of steps of the warm-up, the same in every cycle. Not negative and less than `period`; 0 by
        default.
      gamma: The peak of cycle i is `peak_value * gamma ** i`; it may fall below `init_value`. In (0, 1]; 1 by
        default.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.cosine_warmup_restarts_schedule(0.0, 4, 2, peak_value=1.0, warmup=2, gamma=0.5)
    >>> print(np.round(np.asarray(schedule(np.arange(11))), 2))
    [0.   0.5  1.   0.5  0.   0.25 0.5  0.43 0.25 0.07 0.  ]

    Raises:
      ValueError: `warmup` is not less than `period`.
    """

    init_value: Number = number()
    period: Number = number(ge=1)
    multiplier: Number = number(ge=1)
    peak_value: Number = number()
    warmup: Number = number(default=0, ge=0)
    gamma: Number = number(default=1.0, gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if leaf.is_number(self.warmup) and leaf.is_number(self.period) and self.warmup >= self.period:
            raise ValueError(
                f"cosine_warmup_restarts_schedule: warmup must be in [0, {self.period}), got {self.warmup}: it is a "
                "part of the cycle, whose length is period. Give a longer period, or a shorter warm-up."
            )

    def __call__(self, count: ArrayLike) -> Array:
        now = cycle(count, self.period, self.multiplier, self.warmup)
        fall = half_cosine(jnp.clip(now.left / (now.length - self.warmup), 0, 1))
        height = jnp.where(now.position < self.warmup, share(now.position, self.warmup), fall)
        return self.init_value + (self.peak_value * power(self.gamma, now.parts) - self.init_value) * height


@constructor
def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> join_schedules:
    """Runs several `warmup_cosine_decay_schedule`s one after the other.

    Each schedule runs for its own `decay_steps`; after that, the last schedule stays at its end value.

    Args:
      cosine_kwargs: A list of at least one dict; each dict has the arguments of one `warmup_cosine_decay_schedule`.

    >>> import numpy as np, gradtx as gx
    >>> one = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
    >>> print(np.round(np.asarray(gx.sgdr_schedule([one, {**one, "peak_value": 0.5}])(np.arange(7))), 2))
    [0.   1.   0.5  0.   0.5  0.25 0.  ]

    Returns:
      A `join_schedules` of the pieces.

    Raises:
      TypeError: `cosine_kwargs` is not a list of at least one dict, or an argument is missing or unknown.
    """
    given = list(cosine_kwargs) if isinstance(cosine_kwargs, Iterable) else []
    if not given or not all(isinstance(kwargs, Mapping) for kwargs in given):
        raise TypeError(
            "sgdr_schedule: cosine_kwargs must be a list of at least one dict of arguments of "
            f"warmup_cosine_decay_schedule, got {checks.shown(cosine_kwargs)}."
        )
    schedules = [warmup_cosine_decay_schedule(**kwargs) for kwargs in given]
    return join_schedules(schedules, list(accumulate(schedule.decay_steps for schedule in schedules))[:-1])
