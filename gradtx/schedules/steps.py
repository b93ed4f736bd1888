"""Rates that fall in steps: eta_t = eta_0 * gamma^k, k the number of steps that the clock has passed."""

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
    """`init_value`, multiplied by `gamma` (default 0.1) after every `step_size` steps; both are positive.

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
    """`init_value`, multiplied by `gamma` (default 0.1, positive) at every milestone.

    `milestones` is a list of at least one step, positive and strictly increasing.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.multistep_schedule(1.0, [1, 4], gamma=0.5)(jnp.arange(6)))
    [1.   0.5  0.5  0.5  0.25 0.25]

    Raises:
      ValueError: there is no milestone, or they are not sorted, or one occurs twice.
    """

    init_value: Number = number()
    milestones: Sequence[Any] = child(default=MISSING, check=check_steps)
    gamma: Number = number(default=0.1, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.milestones:
            raise ValueError("multistep_schedule: milestones must name at least one step; constant_schedule has none.")

    def __call__(self, count: ArrayLike) -> Array:
        dtype = jnp.result_type(float)
        passed = sum((since(count, step) >= 0).astype(dtype) for step in self.milestones)
        return self.init_value * jnp.asarray(self.gamma, dtype) ** passed
