"""Polynomial and linear transitions between two values.

    eta_t = (eta_0 - eta_T) * (1 - s)^power + eta_T,   s = clip((t - begin) / steps, 0, 1)

The value is eta_0 up to and at `transition_begin`, and eta_T from `transition_begin + transition_steps` on.
"""

from __future__ import annotations

from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.clock import fraction_left

__all__ = ["linear_schedule", "polynomial_schedule"]


class polynomial_schedule(Schedule):
    """From `init_value` to `end_value` in `transition_steps` steps along (1 - s)^power.

    `power` is at least 0; `transition_steps` is positive, `transition_begin` (default 0) is not negative.

    >>> import gradtx as gx
    >>> gx.polynomial_schedule(1.0, 0.0, power=2.0, transition_steps=10)(5).round(3)
    Array(0.25, dtype=float32)
    """

    init_value: Number = number()
    end_value: Number = number()
    power: Number = number(ge=0)
    transition_steps: Number = number(gt=0)
    transition_begin: Number = number(default=0, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        left = fraction_left(count, self.transition_begin, self.transition_steps)
        return (self.init_value - self.end_value) * left**self.power + self.end_value


class linear_schedule(Schedule):
    """From `init_value` to `end_value` in `transition_steps` equal steps.

    `transition_steps` is positive, `transition_begin` (default 0) is not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.linear_schedule(1.0, 0.0, 4)(jnp.arange(6)))
    [1.   0.75 0.5  0.25 0.   0.  ]
    """

    init_value: Number = number()
    end_value: Number = number()
    transition_steps: Number = number(gt=0)
    transition_begin: Number = number(default=0, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        left = fraction_left(count, self.transition_begin, self.transition_steps)
        return (self.init_value - self.end_value) * left + self.end_value
