"""Cosine decay from an initial value to a fraction of that value, with or without a linear warm-up.

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
    """Decays the learning rate from `init_value` to `alpha * init_value` along half a cosine, then keeps it constant.

    The usual choice when the length of the run is known and no warm-up is needed. With s = min(count / decay_steps,
    1):

        init_value * ((1 - alpha) * ((1 + cos(pi * s)) / 2) ** exponent + alpha)

    Args:
      init_value: The value at step 0.
      decay_steps: Number of steps until the lowest value is reached, usually the length of the run. Positive.
      alpha: The lowest value, as a fraction of `init_value`. Not negative; 0 by default.
      exponent: Power of the cosine; with a larger power the value falls earlier. Not negative; 1 by default.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.cosine_decay_schedule(1.0, 4)(np.arange(6))), 2))
    [1.   0.85 0.5  0.15 0.   0.  ]

    References:
      Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".
    """

    init_value: Number = number()
    decay_steps: Number = number(gt=0)
    alpha: Number = number(default=0.0, ge=0)
    exponent: Number = number(default=1.0, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        cosine = half_cosine(fraction_left(count, 0, self.decay_steps)) ** self.exponent
        return self.init_value * ((1 - self.alpha) * cosine + self.alpha)


class warmup_cosine_decay_schedule(Schedule):
    """Raises the learning rate linearly to a peak, then decays it along half a cosine.

    The usual default for training transformers with a known number of steps.

    Args:
      init_value: The value at step 0, usually 0.
      peak_value: The value at the end of the warm-up, the largest learning rate of the run.
      warmup_steps: Number of steps of the warm-up. Not negative; with 0, step 0 has the peak value.
      decay_steps: Number of steps of the whole schedule, *including* the warm-up. Must be greater than
        `warmup_steps`.
      end_value: The value at step `decay_steps` and all later steps. 0 by default.
      exponent: Power of the cosine; with a larger power the value falls earlier. Not negative; 1 by default.

    >>> import numpy as np, gradtx as gx
    >>> schedule = gx.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=6)
    >>> print(np.round(np.asarray(schedule(np.arange(8))), 2))
    [0.   0.5  1.   0.85 0.5  0.15 0.   0.  ]

    Raises:
      ValueError: `decay_steps` is not greater than `warmup_steps`.
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
