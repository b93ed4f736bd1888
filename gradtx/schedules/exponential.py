"""Exponential decay: by a factor every few steps, at a continuous rate, or after a warm-up.

    exponential_decay      eta_t = eta_0 * rate^((t - begin) / steps)   for t > begin, eta_0 before
    exponential_schedule   eta_t = eta_0 * exp(-rate * t)

With `staircase` the exponent is rounded down to an integer. `end_value` is a lower bound on the value if the factor is
less than 1, and an upper bound otherwise.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import flag
from gradtx.schedules.clock import apart, power
from gradtx.schedules.curves import warmed_up
from gradtx.schedules.cycles import cycle

__all__ = ["exponential_decay", "exponential_schedule", "warmup_exponential_decay_schedule"]


class exponential_schedule(Schedule):
    """Decays the learning rate exponentially with the step count: `init_value * exp(-rate * count)`.

    Args:
      init_value: The value at step 0.
      rate: Decay per step; after `1 / rate` steps the value is about 37% of `init_value`. Not negative.

    >>> import numpy as np, gradtx as gx
    >>> print(np.round(np.asarray(gx.exponential_schedule(1.0, 0.5)(np.arange(4))), 3))
    [1.    0.607 0.368 0.223]
    """

    init_value: Number = number()
    rate: Number = number(ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        high, low = apart(count)
        return self.init_value * (jnp.exp(-self.rate * high) * jnp.exp(-self.rate * low))


def _decayed(schedule: Any, init_value: Any, count: ArrayLike, *begins: Any) -> Array:
    rate, bound, steps = jnp.asarray(schedule.decay_rate, jnp.result_type(float)), schedule.end_value, 1
    if schedule.staircase:  # not floor(x / y): the division can round up to the next integer
        high, low = cycle(count, schedule.transition_steps, begins=begins).parts
    else:
        steps = schedule.transition_steps
        high, low = apart(count, *begins)
        high, low = jnp.where(high >= 0, high, 0), jnp.where(high >= 0, low, 0)
    if bound is None:
        return init_value * power(rate, (high, low), steps)
    # A growing value must not overflow after it has passed its bound: its derivative would be NaN.
    enough = 40 * steps / jnp.log(jnp.where(rate > 1, rate, jnp.e))
    enough = lax.stop_gradient(jnp.where(rate > 1, enough, jnp.inf))
    value = init_value * power(rate, (jnp.minimum(high, enough), jnp.minimum(low, enough)), steps)
    return jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))


class exponential_decay(Schedule):
    """Multiplies the learning rate by `decay_rate` every `transition_steps` steps, gradually or all at once.

        init_value * decay_rate ** ((count - transition_begin) / transition_steps)

    Args:
      init_value: The value at step 0, and until `transition_begin`.
      transition_steps: Number of steps in which the value is multiplied by `decay_rate` once. Positive.
      decay_rate: Factor per `transition_steps` steps. Positive; the value grows if it is greater than 1.
      transition_begin: Step at which the decay begins. Not negative; 0 by default.
      staircase: Whether to change the value only every `transition_steps` steps. False (a smooth curve) by default.
      end_value: Bound that the value does not cross: a lower bound if `decay_rate` is less than 1, otherwise an upper
        bound. None (default) sets no bound.

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
        return _decayed(self, self.init_value, count, self.transition_begin)


class warmup_exponential_decay_schedule(Schedule):
    """Raises the learning rate linearly to a peak, then decays it exponentially like `exponential_decay`.

    Args:
      init_value: The value at step 0, usually 0.
      peak_value: The value at the end of the warm-up.
      warmup_steps: Number of steps of the warm-up. Not negative; with 0, step 0 has the peak value.
      transition_steps: Number of steps in which the value is multiplied by `decay_rate` once. Positive.
      decay_rate: Factor per `transition_steps` steps. Positive; the value grows if it is greater than 1.
      transition_begin: Number of steps at the peak value before the decay begins. Not negative; 0 by default.
      staircase: Whether to change the value only every `transition_steps` steps. False (a smooth curve) by default.
      end_value: Bound that the value does not cross after the warm-up: a lower bound if `decay_rate` is less than 1,
        otherwise an upper bound. None (default) sets no bound.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.warmup_exponential_decay_schedule(0.0, 1.0, 2, transition_steps=1, decay_rate=0.5)(jnp.arange(5)))
    [0.   0.5  1.   0.5  0.25]
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(ge=0)
    transition_steps: Number = number(gt=0)
    decay_rate: Number = number(gt=0)
    transition_begin: Number = number(default=0, ge=0)
    staircase: bool = flag(default=False)
    end_value: Number = number(default=None, optional=True)

    def __call__(self, count: ArrayLike) -> Array:
        decay = _decayed(self, self.peak_value, count, self.warmup_steps, self.transition_begin)
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, decay)
