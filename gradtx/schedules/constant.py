"""Constant schedules: a given value, or the best constant step size of the subgradient method.

The step size

    eta_t = r / (L sqrt(T))

of the subgradient method minimizes the bound r L / sqrt(T) on the error of the average of the first T iterates. The
bound holds for a convex function with Lipschitz constant L that has a minimum at most a distance r away from the
initial parameters (Bubeck, 2015, "Convex Optimization: Algorithms and Complexity", theorem 3.2).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number

__all__ = ["constant_schedule", "optimal_constant_rate"]


class constant_schedule(Schedule):
    """Returns the same value at every step.

    Use it if a schedule is required but the value should not change, for example as one piece of `join_schedules`.

    Args:
      value: The value at every step: a number or an array of shape ().

    >>> import gradtx as gx
    >>> float(gx.constant_schedule(0.5)(1000))
    0.5
    """

    value: Number = number()

    def __call__(self, count: ArrayLike) -> Array:
        return jnp.full(jnp.shape(count), self.value, jnp.result_type(float))


class optimal_constant_rate(Schedule):
    """Returns the best constant learning rate for a subgradient method on a convex function.

    The value `radius / (lipschitz * sqrt(steps))` minimizes the worst-case error of the average of all iterates over a
    run of known length. Use it for convex problems whose constants you know; it is not meant for neural networks.

    Args:
      radius: Upper bound on the distance from the initial parameters to a minimum. Positive.
      lipschitz: Upper bound on the norm of the (sub)gradients. Positive.
      steps: Number of steps in the whole run. Positive. If the run continues beyond `steps`, the value stays the same.

    >>> import gradtx as gx
    >>> float(gx.optimal_constant_rate(radius=2.0, lipschitz=4.0, steps=4)(0))
    0.25

    References:
      Bubeck, 2015, "Convex Optimization: Algorithms and Complexity", theorem 3.2.
    """

    radius: Number = number(gt=0)
    lipschitz: Number = number(gt=0)
    steps: Number = number(gt=0)

    def __call__(self, count: ArrayLike) -> Array:
        root = jnp.sqrt(jnp.asarray(self.steps, jnp.result_type(float)))
        return jnp.full(jnp.shape(count), self.radius / self.lipschitz / root)
