"""A value that is rescaled at given steps, in jumps or by a line or half a cosine that ends there.

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
        raise ValueError(f"{who}: {name} names a step twice: {checks.shown(value)}. Multiply its factors.")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _step(who: str, name: str, boundary: Any) -> Any:
    """A boundary as a Python number: the pairs are sorted by it."""
    boundary = as_number(boundary)
    if not (leaf.is_number(boundary) and math.isfinite(boundary) and boundary == int(boundary)):
        raise TypeError(
            f"{who}: {name} has the boundary {checks.shown(boundary)}; steps are Python integers, or NumPy's. For "
            "boundaries that are arrays there is gx.join_schedules."
        )
    return Limits(ge=0).check(who, f"a boundary of {name}", int(boundary), schedules=False)


class piecewise_constant_schedule(Schedule):
    """`init_value`, multiplied by each factor from its step on.

    `boundaries_and_scales` is a dict from step to non-negative factor; it is kept as pairs in
    the order of the steps.

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
    """`init_value` at step 0, multiplied by each factor at its step, and on a curve between these points.

    `interpolate_type` is "linear" or "cosine". `boundaries_and_scales` is a dict from step to non-negative factor;
    it is kept as pairs in the order of the steps. The last value holds after the last step.

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
