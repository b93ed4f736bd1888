"""Half a cosine from a value to a fraction of it, and the same after a linear warm-up.

    eta_t = eta_0 * ((1 - alpha) * ((1 + cos(pi s)) / 2)^exponent + alpha),   s = min(t / T, 1)

(Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".)
"""

from __future__ import annotations

from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.clock import fraction_left
from gradtx.schedules.curves import half_cosine, warmed_up

__all__ = ["cosine_decay_schedule", "warmup_cosine_decay_schedule"]


class cosine_decay_schedule(Schedule):
    """From `init_value` to `alpha * init_value` in `decay_steps` steps, then constant.

    `decay_steps` is positive; `alpha` (default 0) and `exponent` (default 1) are not negative.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.cosine_decay_schedule(1.0, 4)(np.arange(6))), 2))
    [1.   0.85 0.5  0.15 0.   0.  ]
    """

    init_value: Number = number()
    decay_steps: Number = number(gt=0)
    alpha: Number = number(default=0.0, ge=0)
    exponent: Number = number(default=1.0, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        cosine = half_cosine(fraction_left(count, 0, self.decay_steps)) ** self.exponent
        return self.init_value * ((1 - self.alpha) * cosine + self.alpha)


class warmup_cosine_decay_schedule(Schedule):
    """From `init_value` linearly to `peak_value` in `warmup_steps`, then by half a cosine to `end_value`.

    `decay_steps` is the length of the whole schedule, the warm-up included, and must be greater
    than `warmup_steps`, which may be 0. `end_value` defaults to 0 and `exponent` to 1.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=6)
    >>> print(np.round(np.asarray(schedule(np.arange(8))), 2))
    [0.   0.5  1.   0.85 0.5  0.15 0.   0.  ]
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(ge=0)
    decay_steps: Number = number(gt=0)
    end_value: Number = number(default=0.0)
    exponent: Number = number(default=1.0, ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        warmup, decay = self.warmup_steps, self.decay_steps
        if leaf.is_number(warmup) and leaf.is_number(decay) and decay <= warmup:
            raise ValueError(
                f"warmup_cosine_decay_schedule: decay_steps must be in ({warmup}, inf), got {decay}: it is the length "
                "of the whole schedule, the warm-up included. Give warmup_steps plus the steps of the decay."
            )

    def __call__(self, count: ArrayLike) -> Array:
        left = fraction_left(count, self.warmup_steps, self.decay_steps - self.warmup_steps)
        decay = (self.peak_value - self.end_value) * half_cosine(left) ** self.exponent + self.end_value
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, decay)
