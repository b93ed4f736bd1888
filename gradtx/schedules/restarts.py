"""Cosine decay with restarts, in cycles that may grow, with or without a warm-up in each.

    eta_t = end + (peak_i - end) * (1 + cos(pi s)) / 2

s from 0 to 1 over cycle i, or over what its warm-up leaves of it; T_(i+1) = (T_i - warmup) * multiplier + warmup is
the length of the next cycle. Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".
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
    """Half a cosine from `init_value` towards `end_value`, again and again; each cycle begins with `init_value`.

    The first cycle has `period` steps, every other `multiplier` (default 1) times as many as the one before; both are
    at least 1 and need not be whole. `end_value` (default 0) is what the next step of a cycle would have, had it one.
    A multiplier that is not the number 1 costs a loop over the cycles so far: 20 for a million times the period at 2.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.cosine_restarts_schedule(1.0, period=2, multiplier=2)(np.arange(8))), 2))
    [1.   0.5  1.   0.85 0.5  0.15 1.   0.96]
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
    """Cycles of a linear warm-up from `init_value` to a peak, and half a cosine back towards `init_value`.

    The first cycle has `period` steps, of which `warmup` (default 0) belong to its warm-up, and every cycle has as
    long a warm-up; what follows the warm-up is `multiplier` times longer in every cycle. The peak of cycle i is
    `peak_value * gamma**i` (default 1): nothing keeps it above `init_value`. Without a warm-up a cycle begins with
    its peak. The loop over the cycles is that of `cosine_restarts_schedule`.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.cosine_warmup_restarts_schedule(0.0, 4, 2, peak_value=1.0, warmup=2, gamma=0.5)
    >>> print(np.round(np.asarray(schedule(np.arange(11))), 2))
    [0.   0.5  1.   0.5  0.   0.25 0.5  0.43 0.25 0.07 0.  ]

    Raises:
      ValueError: the warm-up is as long as the first cycle, or longer.
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
    """One `warmup_cosine_decay_schedule` after another; each dict has the arguments of one of them.

    Each runs for its `decay_steps`; the last keeps its end value.

    >>> import numpy as np, gradtx as gx
    >>> one = dict(init_value=0.0, peak_value=1.0, warmup_steps=1, decay_steps=3)
    >>> print(np.round(np.asarray(gx.sgdr_schedule([one, {**one, "peak_value": 0.5}])(np.arange(7))), 2))
    [0.   1.   0.5  0.   0.5  0.25 0.  ]

    Raises:
      TypeError: not a list of at least one dict, or an argument is missing or unknown.
    """
    given = list(cosine_kwargs) if isinstance(cosine_kwargs, Iterable) else []
    if not given or not all(isinstance(kwargs, Mapping) for kwargs in given):
        raise TypeError(
            "sgdr_schedule: cosine_kwargs must be a list of at least one dict of arguments of "
            f"warmup_cosine_decay_schedule, got {checks.shown(cosine_kwargs)}."
        )
    schedules = [warmup_cosine_decay_schedule(**kwargs) for kwargs in given]
    return join_schedules(schedules, list(accumulate(schedule.decay_steps for schedule in schedules))[:-1])
