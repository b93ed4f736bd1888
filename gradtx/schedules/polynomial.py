"""Polynomial and linear transitions between two values.

    eta_t = (eta_0 - eta_T) * (1 - s)^power + eta_T,   s = clip((t - begin) / steps, 0, 1)

The value is eta_0 until `transition_begin`, and eta_T from `transition_begin + transition_steps` on.
"""

from __future__ import annotations

from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.clock import fraction_left

__all__ = ["linear_schedule", "polynomial_schedule"]


class polynomial_schedule(Schedule):
    """Moves the learning rate from `init_value` to `end_value` along a polynomial, then keeps it constant.

        (init_value - end_value) * (1 - s) ** power + end_value

    Args:
      init_value: The value at step 0, and until `transition_begin`.
      end_value: The value at the end of the transition, and afterwards.
      power: Degree of the polynomial: 1 gives a line, 2 a curve that changes fast at first and slowly at the end. Not
        negative.
      transition_steps: Number of steps of the transition. Positive.
      transition_begin: Step at which the transition begins. Not negative; 0 by default.

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
    """Moves the learning rate linearly from `init_value` to `end_value`, then keeps it constant.

    Use it for a linear decay or a linear warm-up.

    Args:
      init_value: The value at step 0, and until `transition_begin`.
      end_value: The value at the end of the transition, and afterwards.
      transition_steps: Number of steps of the transition. Positive.
      transition_begin: Step at which the transition begins. Not negative; 0 by default.

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
