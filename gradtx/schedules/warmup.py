"""Linear warm-up, then a constant, or a constant and a decay ("warm-up, stable, decay").

    eta_t = end + (peak - end) * f((t - begin) / decay_steps),   begin = warmup_steps + stable_steps

with f(s) = 1 - s, (1 + cos(pi s)) / 2 or 1 - sqrt(s). Hu et al., 2024, "MiniCPM: Unveiling the Potential of Small
Language Models with Scalable Training Strategies"; the root is from Haegele et al., 2024, "Scaling Laws and
Compute-Optimal Training Beyond Fixed Training Durations".
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
    """From `init_value` linearly to `peak_value` in `warmup_steps`, then constant.

    `warmup_steps` may be 0: then step 0 has the peak.

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
    """Linear warm-up from `init_value` to `peak_value`, a constant, then a decay to `end_value`, which is kept.

    Each part has its own length; those of the warm-up and of the constant may be 0, and `decay_steps` is positive.
    `end_value` defaults to 0, and `decay` is "linear" (default), "cosine" or "1-sqrt".

    >>> import numpy as np, gradtx as gx
    >>> print(gx.wsd_schedule(0.0, 1.0, warmup_steps=2, stable_steps=3, decay_steps=4)(np.arange(11)))
    [0.   0.5  1.   1.   1.   1.   0.75 0.5  0.25 0.   0.  ]
    >>> print(np.round(np.asarray(gx.wsd_schedule(0.0, 1.0, 1, 1, 4, decay="1-sqrt")(np.arange(7))), 3))
    [0.    1.    1.    0.5   0.293 0.134 0.   ]
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
