"""Cyclic rates: up and down in triangles that may shrink.

    eta_t = init + (peak - init) * x(t) * s(t),   x from 0 up to 1 in steps_up steps, and down to 0 in steps_down

with s = 1 ("triangular"), 2^(-i) in cycle i ("triangular2") or gamma^t ("exp_range"). Smith, 2017, "Cyclical Learning
Rates for Training Neural Networks".
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import static
from gradtx.schedules.clock import apart, power
from gradtx.schedules.cycles import cycle

__all__ = ["cyclic_schedule"]


class cyclic_schedule(Schedule):
    """From `init_value` at step 0 up to `peak_value` in `steps_up`, down again in `steps_down`, and so on for ever.

    `steps_down` is None for as many as `steps_up`; both are positive. `mode` is "triangular" (default), "triangular2"
    or "exp_range", for which `gamma` in (0, 1] is the factor of every step.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.cyclic_schedule(0.0, 1.0, 2, 4, mode="triangular2")(jnp.arange(13)))
    [0.    0.5   1.    0.75  0.5   0.25  0.    0.25  0.5   0.375 0.25  0.125 0.   ]

    Raises:
      ValueError: `gamma` is given with another mode than "exp_range", where it would be ignored.
    """

    init_value: Number = number()
    peak_value: Number = number()
    steps_up: Number = number(gt=0)
    steps_down: Number = number(default=None, gt=0, optional=True)
    mode: str = static(
        default="triangular", check=partial(checks.choice, options=("triangular", "triangular2", "exp_range"))
    )
    gamma: Number = number(default=1.0, gt=0, le=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "exp_range" and leaf.is_number(self.gamma) and self.gamma != 1:
            raise ValueError(
                f"cyclic_schedule: gamma must be 1 unless mode is 'exp_range', got {self.gamma} with "
                f"mode={self.mode!r}, where it would be ignored."
            )

    def __call__(self, count: ArrayLike) -> Array:
        down = self.steps_up if self.steps_down is None else self.steps_down
        now = cycle(count, self.steps_up + down)
        # Each side from its own end, so that it is exact where it is small.
        height = jnp.clip(jnp.minimum(now.position / self.steps_up, now.left / down), 0, 1)
        if self.mode == "triangular2":
            height = height * power(0.5, now.parts)
        elif self.mode == "exp_range":
            height = height * power(self.gamma, apart(count))
        return self.init_value + (self.peak_value - self.init_value) * height
