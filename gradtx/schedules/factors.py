"""A value times factors that a function of the step gives.

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
    """Integers in JAX's default width, in which a division gives its default float."""
    count = as_count(count)
    return count.astype(jnp.result_type(int)) if jnp.issubdtype(count.dtype, jnp.integer) else count


def _factor(fn: Callable[[Any], Any], step: Array) -> Array:
    return jnp.asarray(function_schedule(fn)(step), jnp.result_type(float))


class lambda_schedule(Schedule):
    """`init_value` times `factor(count)`; step 0 has `init_value * factor(0)`.

    `factor` is a function of one step; arrays of steps reach it one by one, by `vmap`. It is a static part, as in
    `function_schedule`: another function retraces.

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
    """`init_value` times `factor(1) * factor(2) * ... * factor(count)`; step 0 has `init_value`.

    `factor` is a function of one step, static as in `function_schedule`. As a pure function of the step this is a loop
    over all steps so far, with one call of `factor` each: `count` calls for step `count`, and no more for a whole curve
    up to there. Where a closed form is known, `lambda_schedule` costs one call. There are derivatives by `init_value`,
    and forward ones by what `factor` closes over.

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
