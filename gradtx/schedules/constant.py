"""Constant schedules: a value that is given, and the one that is best for a convex function of known slope.

    eta_t = r / (L sqrt(T))

is the step of the subgradient method that minimises the bound r L / sqrt(T) on the error of the average of T points,
for a convex function of Lipschitz constant L whose minimum is at most r away from the start (Bubeck, 2015, "Convex
Optimization: Algorithms and Complexity", theorem 3.2).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number

__all__ = ["constant_schedule", "optimal_constant_rate"]


class constant_schedule(Schedule):
    """`value` at every step.

    >>> import gradtx as gx
    >>> float(gx.constant_schedule(0.5)(1000))
    0.5
    """

    value: Number = number()

    def __call__(self, count: ArrayLike) -> Array:
        return jnp.full(jnp.shape(count), self.value, jnp.result_type(float))


class optimal_constant_rate(Schedule):
    """`radius / (lipschitz * sqrt(steps))` at every step, the best constant rate for a run of `steps` steps.

    All three are positive; `steps` is the length of the run, after which the value stays what it is.

    >>> import gradtx as gx
    >>> float(gx.optimal_constant_rate(radius=2.0, lipschitz=4.0, steps=4)(0))
    0.25
    """

    radius: Number = number(gt=0)
    lipschitz: Number = number(gt=0)
    steps: Number = number(gt=0)

    def __call__(self, count: ArrayLike) -> Array:
        root = jnp.sqrt(jnp.asarray(self.steps, jnp.result_type(float)))
        return jnp.full(jnp.shape(count), self.radius / self.lipschitz / root)
