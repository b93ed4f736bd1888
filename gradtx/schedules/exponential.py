"""Exponential decay.

    eta_t = eta_0 * rate^((t - begin) / steps)   for t > begin, eta_0 before

With `staircase` the exponent is rounded down to an integer. `end_value` bounds the value: from
below where the rate is less than 1, from above where it is not.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import flag
from gradtx.schedules.clock import since

__all__ = ["exponential_decay"]


class exponential_decay(Schedule):
    """`init_value` times `decay_rate` every `transition_steps` steps.

    `transition_steps` and `decay_rate` are positive, `transition_begin` (default 0) is not negative;
    `end_value` is None for no bound.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.exponential_decay(1.0, 2, 0.25)(jnp.arange(4)))
    [1.    0.5   0.25  0.125]
    >>> print(gx.exponential_decay(1.0, 2, 0.25, staircase=True, end_value=0.1)(jnp.arange(6)))
    [1.   1.   0.25 0.25 0.1  0.1 ]
    """

    init_value: Number = number()
    transition_steps: Number = number(gt=0)
    decay_rate: Number = number(gt=0)
    transition_begin: Number = number(default=0, ge=0)
    staircase: bool = flag(default=False)
    end_value: Number = number(default=None, optional=True)

    def __call__(self, count: ArrayLike) -> Array:
        dtype = jnp.result_type(float)
        elapsed = jnp.maximum(since(count, self.transition_begin), 0).astype(dtype)
        # Not floor(x / y), which can round up to the next stair.
        passed = elapsed // self.transition_steps if self.staircase else elapsed / self.transition_steps
        value = self.init_value * jnp.asarray(self.decay_rate, dtype) ** passed
        if self.end_value is None:
            return value
        low, high = jnp.maximum(value, self.end_value), jnp.minimum(value, self.end_value)
        return jnp.where(jnp.asarray(self.decay_rate) < 1, low, high)
