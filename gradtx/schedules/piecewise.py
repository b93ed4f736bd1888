"""Schedules that multiply a value by factors at given steps, by jumps or along curves between these steps.

eta_t = eta_0 * product of scale_i over boundary_i <= t
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.hyper import Limits, Number, Schedule, number
from gradtx.core.value import child, static
from gradtx.schedules.clock import as_number, as_steps, since
from gradtx.schedules.curves import interpolated

__all__ = ["piecewise_constant_schedule", "piecewise_interpolate_schedule"]


def _check_pairs(who: str, name: str, value: Any) -> tuple[tuple[Any, Any], ...]:
    pairs = value.items() if isinstance(value, Mapping) else () if value is None else as_steps(value)
    try:
        pairs = [(boundary, scale) for boundary, scale in pairs]
    except (TypeError, ValueError):
        raise TypeError(
            f"{who}: {name} must be a dict from step to factor, such as {{1000: 0.1}}, got {checks.shown(value)}."
        ) from None
    pairs = [
        (
            _step(who, name, boundary),
            Limits(ge=0).check(who, f"the factor of {name} at step {boundary}", scale, schedules=False),
        )
        for boundary, scale in pairs
    ]
    if len({boundary for boundary, _ in pairs}) != len(pairs):
        raise ValueError(
            f"{who}: {name} names a step twice: {checks.shown(value)}. Name it once, with the product of its factors."
        )
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _step(who: str, name: str, boundary: Any) -> Any:
    """Converts a boundary to a Python integer, because the pairs are sorted by it."""
    boundary = as_number(boundary)
    if not (leaf.is_number(boundary) and math.isfinite(boundary) and boundary == int(boundary)):
        raise TypeError(
            f"{who}: {name} has the boundary {checks.shown(boundary)}; the steps must be Python or NumPy "
            "integers. If the boundaries are arrays, use gx.join_schedules."
        )
    return Limits(ge=0).check(who, f"a boundary of {name}", int(boundary), schedules=False)


class piecewise_constant_schedule(Schedule):
    """Multiplies the learning rate by a factor at each of the given steps, and keeps it constant between them.

    Args:
      init_value: The value at step 0.
      boundaries_and_scales: A dict from steps to factors; from each of these steps on, the value is multiplied by the
        factor of that step. Steps are Python or NumPy integers; factors are not negative. With None or an empty dict
        the value is always `init_value`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.1})(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.05 0.05]
    """

    init_value: Number = number()
    boundaries_and_scales: Any = child(default=(), check=_check_pairs)

    def __call__(self, count: ArrayLike) -> Array:
        value = jnp.full(jnp.shape(count), self.init_value, jnp.result_type(float))
        for boundary, scale in self.boundaries_and_scales:
            value = jnp.where(since(count, boundary) >= 0, scale * value, value)
        return value


class piecewise_interpolate_schedule(Schedule):
    """Multiplies the learning rate by a factor at each of the given steps, with a line or a half cosine in between.

    Args:
      interpolate_type: The curve between two of the given steps: "linear" or "cosine" (half a cosine).
      init_value: The value at step 0.
      boundaries_and_scales: A dict from steps to factors. Each factor is the ratio of the value at its step to the
        value at the next smaller step in the dict (for the smallest step, to `init_value`); after the largest step the
        value stays the same. Steps are Python or NumPy integers; factors are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.piecewise_interpolate_schedule("linear", 1.0, {2: 2.0, 6: 0.0})(jnp.arange(8)))
    [1.  1.5 2.  1.5 1.  0.5 0.  0. ]
    """

    interpolate_type: str = static(check=partial(checks.choice, options=("linear", "cosine")))
    init_value: Number = number()
    boundaries_and_scales: Any = child(default=(), check=_check_pairs)

    def __call__(self, count: ArrayLike) -> Array:
        boundaries = [boundary for boundary, _ in self.boundaries_and_scales]
        values = list(accumulate((scale for _, scale in self.boundaries_and_scales), mul, initial=self.init_value))
        return interpolated(count, boundaries, values, self.interpolate_type)
