"""Cyclic learning rates: triangles between two values, whose height may shrink over time.

    eta_t = init + (peak - init) * x(t) * s(t)

The triangle x rises from 0 to 1 in steps_up steps and falls back to 0 in steps_down steps. The height s is 1
("triangular"), 2^(-i) in cycle i ("triangular2") or gamma^t ("exp_range"). Smith, 2017, "Cyclical Learning Rates for
Training Neural Networks".
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
    """Moves the learning rate linearly up and down between two values, in cycles that repeat forever.

    Use it to explore a range of learning rates, or for runs whose length is not known in advance.

    Args:
      init_value: The lowest value, at the beginning of every cycle.
      peak_value: The highest value of the first cycle.
      steps_up: Number of steps from `init_value` to the peak. Positive.
      steps_down: Number of steps from the peak back down. Positive; None (default) uses `steps_up`.
      mode: How the height of the triangles changes: "triangular" (default) keeps it, "triangular2" halves it after
        every cycle, and "exp_range" multiplies it by `gamma` at every step.
      gamma: Factor per step for mode="exp_range"; other modes do not accept it. In (0, 1]; 1 by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.cyclic_schedule(0.0, 1.0, 2, 4, mode="triangular2")(jnp.arange(13)))
    [0.    0.5   1.    0.75  0.5   0.25  0.    0.25  0.5   0.375 0.25  0.125 0.   ]

    Raises:
      ValueError: `gamma` is not 1 although `mode` is not "exp_range", so `gamma` would be ignored.

    References:
      Smith, 2017, "Cyclical Learning Rates for Training Neural Networks".
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
                f"mode={self.mode!r}, which does not use gamma. Leave gamma out, or set mode='exp_range'."
            )

    def __call__(self, count: ArrayLike) -> Array:
        down = self.steps_up if self.steps_down is None else self.steps_down
        now = cycle(count, self.steps_up + down)
        # Each side is computed from its own lower end, so that small heights are exact.
        height = jnp.clip(jnp.minimum(now.position / self.steps_up, now.left / down), 0, 1)
        if self.mode == "triangular2":
            height = height * power(0.5, now.parts)
        elif self.mode == "exp_range":
            height = height * power(self.gamma, apart(count))
        return self.init_value + (self.peak_value - self.init_value) * height
