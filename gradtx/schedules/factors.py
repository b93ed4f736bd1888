"""Schedules that multiply a value by factors, which a function of the step count returns.

lambda_schedule            eta_t = eta_0 * f(t)
multiplicative_schedule    eta_t = eta_0 * f(1) * f(2) * ... * f(t)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, function_schedule, number
from gradtx.core.value import function, static
from gradtx.schedules.clock import as_count

__all__ = ["lambda_schedule", "multiplicative_schedule"]


def _steps(count: ArrayLike) -> Array:
    """Converts an integer count to JAX's default integer dtype, so that a division gives JAX's default float dtype."""
    count = as_count(count)
    return count.astype(jnp.result_type(int)) if jnp.issubdtype(count.dtype, jnp.integer) else count


def _factor(fn: Callable[[Any], Any], step: Array) -> Array:
    return jnp.asarray(function_schedule(fn)(step), jnp.result_type(float))


class lambda_schedule(Schedule):
    """Multiplies a value by a function of the step count: `init_value * factor(count)`.

    Use it for your own formula. You can change `init_value` without recompiling.

    Args:
      init_value: The number by which every factor is multiplied.
      factor: A function from one step (a traced integer, 0 for the first) to a number, written with `jax.numpy`. For an
        array of steps, `jax.vmap` maps the function over the array, so the function always receives one step. The
        function is static: a different function recompiles.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.lambda_schedule(2.0, lambda step: 1 / (1 + step // 2))(np.arange(6))), 3))
    [2.    2.    1.    1.    0.667 0.667]
    """

    init_value: Number = number()
    factor: Any = static(default=MISSING, check=function)

    def __call__(self, count: ArrayLike) -> Array:
        steps = _steps(count)

        def one(step: Array) -> Array:
            return _factor(self.factor, step)

        factors = jax.vmap(one)(steps.reshape(-1)).reshape(steps.shape) if steps.ndim else one(steps)
        return self.init_value * factors


class multiplicative_schedule(Schedule):
    """Multiplies a value by a new factor at every step: `init_value * factor(1) * ... * factor(count)`.

    Prefer `lambda_schedule` if you know a closed formula: each call of this schedule loops over all steps so far and
    calls `factor` for every step. A call with an array of steps needs only one loop. The schedule can be differentiated
    with respect to `init_value`, and in forward mode also with respect to values that `factor` closes over.

    Args:
      init_value: The value at step 0.
      factor: A function from one step (a traced integer, 1 for the first factor) to a number, written with `jax.numpy`.
        The function is static: a different function recompiles.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.multiplicative_schedule(1.0, lambda step: jnp.where(step % 2 == 0, 0.5, 1.0))(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]
    """

    init_value: Number = number()
    factor: Any = static(default=MISSING, check=function)

    def __call__(self, count: ArrayLike) -> Array:
        steps = _steps(jnp.floor(count) if jnp.issubdtype(jnp.result_type(count), jnp.floating) else count)
        steps = steps.astype(jnp.result_type(int))

        def multiplied(passed: Any, product: Array) -> Array:
            return jnp.where(passed < steps, product * _factor(self.factor, passed + 1), product)

        most = jnp.max(steps, initial=0)
        product = lax.fori_loop(jnp.zeros_like(most), most, multiplied, jnp.ones(steps.shape, jnp.result_type(float)))
        return self.init_value * product
