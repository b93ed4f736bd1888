"""Decay by a power of the step count: eta_t = eta_0 * (beta * t + 1)^(-alpha), or by its root after a warm-up.

Robbins and Monro, 1951, "A Stochastic Approximation Method", converges for 1/2 < alpha <= 1. PyTorch's Adagrad
decays its rate by alpha = 1, in its argument `lr_decay`. The root after a linear warm-up of W steps,

    eta_t = peak * min(t / W, sqrt(W / t))

is the transformer's (Vaswani et al., 2017, "Attention Is All You Need").
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.curves import warmed_up

__all__ = ["inverse_power_schedule", "inverse_sqrt_schedule"]


class inverse_power_schedule(Schedule):
    """`init_value` divided by the power `alpha` of `beta * count + 1`; `beta` and `alpha` are not negative.

    The decay eta / sqrt(t + c) is `inverse_power_schedule(eta / sqrt(c), beta=1 / c)`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.inverse_power_schedule(1.0, beta=1.0, alpha=1.0)(jnp.array([0, 1, 3])))
    [1.   0.5  0.25]
    >>> print(gx.inverse_power_schedule(6.0 / 2, beta=1 / 4)(jnp.array([0, 5, 12])))  # 6 / sqrt(t + 4)
    [3.  2.  1.5]
    """

    init_value: Number = number()
    beta: Number = number(ge=0)
    alpha: Number = number(default=0.5, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        steps = jnp.asarray(count, jnp.result_type(float))
        return self.init_value * (self.beta * steps + 1) ** -self.alpha


class inverse_sqrt_schedule(Schedule):
    """From `init_value` linearly to `peak_value` in `warmup_steps`, then `peak_value * sqrt(warmup_steps / count)`.

    `warmup_steps` is positive. The transformer of width d has init_value 0 and peak_value 1 / sqrt(d * warmup_steps);
    its paper counts steps from 1, so that its first value is the one at step 1 here.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.inverse_sqrt_schedule(0.0, 1.0, warmup_steps=4)(jnp.array([0, 1, 2, 4, 16, 64])))
    [0.   0.25 0.5  1.   0.5  0.25]
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(gt=0)

    def __call__(self, count: ArrayLike) -> Array:
        steps = jnp.maximum(jnp.asarray(count, jnp.result_type(float)), self.warmup_steps)
        decay = self.peak_value * jnp.sqrt(self.warmup_steps / steps)
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, decay)
