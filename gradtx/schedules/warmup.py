"""Linear warm-up, followed by a constant value, or by a constant value and a decay ("warm-up, stable, decay").

    eta_t = end + (peak - end) * f((t - begin) / decay_steps),   begin = warmup_steps + stable_steps

The shape f(s) is 1 - s, (1 + cos(pi s)) / 2 or 1 - sqrt(s). Hu et al., 2024, "MiniCPM: Unveiling the Potential of Small
Language Models with Scalable Training Strategies"; the shape with the square root is from Haegele et al., 2024,
"Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations".
"""

from __future__ import annotations

from functools import partial

from jax import Array
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import static
from gradtx.schedules.clock import fraction_left
from gradtx.schedules.curves import SHAPES, warmed_up

__all__ = ["warmup_constant_schedule", "wsd_schedule"]


class warmup_constant_schedule(Schedule):
    """Raises the learning rate linearly to `peak_value`, then keeps it constant.

    Args:
      init_value: The value at step 0, usually 0.
      peak_value: The value at the end of the warm-up, and afterwards.
      warmup_steps: Number of steps of the warm-up. Not negative; with 0, step 0 has the peak value.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.warmup_constant_schedule(0.0, 1.0, warmup_steps=4)(jnp.arange(6)))
    [0.   0.25 0.5  0.75 1.   1.  ]
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, self.peak_value)


class wsd_schedule(Schedule):
    """Raises the learning rate linearly to a peak, keeps it constant, and finally decays it (warm-up, stable, decay).

    Use it for long runs that you may want to extend: from any checkpoint of the constant phase you can start the decay,
    or continue at the peak value.

    Args:
      init_value: The value at step 0, usually 0.
      peak_value: The value during the constant phase.
      warmup_steps: Number of steps of the warm-up. Not negative.
      stable_steps: Number of steps at the peak value. Not negative.
      decay_steps: Number of steps of the decay only, without warm-up and constant phase; often 10% to 20% of the run.
        Positive.
      end_value: The value after the decay. 0 by default.
      decay: Shape of the decay: "linear" (default), "cosine" or "1-sqrt" (falls fastest at the beginning).

    >>> import numpy as np, gradtx as gx
    >>> print(gx.wsd_schedule(0.0, 1.0, warmup_steps=2, stable_steps=3, decay_steps=4)(np.arange(11)))
    [0.   0.5  1.   1.   1.   1.   0.75 0.5  0.25 0.   0.  ]
    >>> print(np.round(np.asarray(gx.wsd_schedule(0.0, 1.0, 1, 1, 4, decay="1-sqrt")(np.arange(7))), 3))
    [0.    1.    1.    0.5   0.293 0.134 0.   ]

    References:
      Hu et al., 2024, "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training
        Strategies".
      Haegele et al., 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" ("1-sqrt").
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(ge=0)
    stable_steps: Number = number(ge=0)
    decay_steps: Number = number(gt=0)
    end_value: Number = number(default=0.0)
    decay: str = static(default="linear", check=partial(checks.choice, options=tuple(SHAPES)))

    def __call__(self, count: ArrayLike) -> Array:
        left = fraction_left(count, self.warmup_steps, self.stable_steps, self.decay_steps)
        decay = (self.peak_value - self.end_value) * SHAPES[self.decay](left) + self.end_value
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, decay)
