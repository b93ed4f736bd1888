"""Schedules that fall by jumps: eta_t = eta_0 * gamma^k, where k is the number of jumps so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import child
from gradtx.schedules.clock import check_steps, since
from gradtx.schedules.exponential import exponential_decay

__all__ = ["multistep_schedule", "step_schedule"]


class step_schedule(Schedule):
    """Multiplies the learning rate by `gamma` every `step_size` steps.

    Args:
      init_value: The value at step 0.
      step_size: Number of training steps between two changes of the value. Positive.
      gamma: Factor by which the value is multiplied at each change. Positive; 0.1 by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.step_schedule(1.0, 2, gamma=0.5)(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]
    """

    init_value: Number = number()
    step_size: Number = number(gt=0)
    gamma: Number = number(default=0.1, gt=0)

    def __call__(self, count: ArrayLike) -> Array:
        return exponential_decay(self.init_value, self.step_size, self.gamma, staircase=True)(count)


class multistep_schedule(Schedule):
    """Multiplies the learning rate by `gamma` at every milestone.

    The classic schedule for image classifiers, with milestones at half and three quarters of the run.

    Args:
      init_value: The value at step 0.
      milestones: A list of the steps at which the value changes: at least one, all positive and strictly increasing.
      gamma: Factor by which the value is multiplied at each change. Positive; 0.1 by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.multistep_schedule(1.0, [1, 4], gamma=0.5)(jnp.arange(6)))
    [1.   0.5  0.5  0.5  0.25 0.25]

    Raises:
      ValueError: there is no milestone, or the milestones do not strictly increase.
    """

    init_value: Number = number()
    milestones: Sequence[Any] = child(default=MISSING, check=check_steps)
    gamma: Number = number(default=0.1, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.milestones:
            raise ValueError(
                "multistep_schedule: milestones must name at least one step. For none, use constant_schedule."
            )

    def __call__(self, count: ArrayLike) -> Array:
        dtype = jnp.result_type(float)
        passed = sum((since(count, step) >= 0).astype(dtype) for step in self.milestones)
        return self.init_value * jnp.asarray(self.gamma, dtype) ** passed
