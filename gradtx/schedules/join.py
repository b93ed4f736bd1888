"""Combines schedules: one after the other, or as a product.

join_schedules        eta_t = eta_i(t - boundary_i)   for boundary_i <= t < boundary_(i+1)
multiply_schedules    eta_t = eta_0(t) * eta_1(t) * ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.core.hyper import Schedule, function_schedule
from gradtx.core.value import child
from gradtx.schedules.clock import check_steps, since

__all__ = ["multiply_schedules", "join_schedules"]


def _check_schedules(who: str, name: str, value: Any) -> tuple[Schedule, ...]:
    if not isinstance(value, Sequence) or not value or not all(callable(s) for s in value):
        raise TypeError(f"{who}: {name} must be a list of at least one schedule, got {checks.shown(value)}.")
    return tuple(s if isinstance(s, Schedule) else function_schedule(s) for s in value)


class join_schedules(Schedule):
    """Runs schedules one after the other; each schedule counts its own steps from 0.

    Args:
      schedules: A list of at least one schedule. Functions of the step count are allowed.
      boundaries: The steps at which the next schedule begins: one entry fewer than `schedules`, positive and strictly
        increasing.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> two = gx.join_schedules([gx.linear_schedule(0.0, 1.0, 2), gx.constant_schedule(0.5)], [3])
    >>> print(two(jnp.arange(5)))
    [0.  0.5 1.  0.5 0.5]

    Raises:
      ValueError: the number of boundaries does not match the number of schedules, or the boundaries do not
        increase.
    """

    schedules: Sequence[Any] = child(check=_check_schedules)
    boundaries: Sequence[Any] = child(check=check_steps)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.boundaries) != len(self.schedules) - 1:
            raise ValueError(
                f"join_schedules: boundaries must have one entry fewer than schedules, got {len(self.boundaries)} "
                f"for {len(self.schedules)} schedules: a boundary is where the next schedule takes over."
            )

    def __call__(self, count: ArrayLike) -> Array:
        value = self.schedules[0](count)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            own = since(count, boundary)
            value = jnp.where(own < 0, value, schedule(jnp.maximum(own, 0)))
        return value


class multiply_schedules(Schedule):
    """Multiplies the values of several schedules, all evaluated at the same step count.

    For example, one schedule can give the learning rate and another the warm-up factor.

    Args:
      schedules: A list of at least one schedule. Functions of the step count are allowed.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.multiply_schedules([gx.linear_schedule(0.0, 1.0, 4), gx.step_schedule(8.0, 2, 0.5)])(jnp.arange(6)))
    [0. 2. 2. 3. 2. 2.]
    """

    schedules: Sequence[Any] = child(check=_check_schedules)

    def __call__(self, count: ArrayLike) -> Array:
        value = jnp.ones(jnp.shape(count), jnp.result_type(float))
        for schedule in self.schedules:
            value = value * schedule(count)
        return value
