"""Decay by a power of the step count, or by its square root after a warm-up.

    inverse_power_schedule   eta_t = eta_0 * (beta * t + 1)^(-alpha)
    inverse_sqrt_schedule    eta_t = peak * min(t / W, sqrt(W / t)),   W = warmup_steps

The first schedule guarantees convergence of stochastic approximation if 1/2 < alpha <= 1 (Robbins and Monro, 1951, "A
Stochastic Approximation Method"). PyTorch's Adagrad uses it with alpha = 1 and beta = `lr_decay`. The second is the
schedule of the original transformer (Vaswani et al., 2017, "Attention Is All You Need").
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.core.hyper import Number, Schedule, number
from gradtx.schedules.curves import warmed_up

__all__ = ["inverse_power_schedule", "inverse_sqrt_schedule"]


class inverse_power_schedule(Schedule):
    """Decays the learning rate by a power of the step count: `init_value * (beta * count + 1) ** -alpha`.

    Use it for runs whose length is not known in advance, and for stochastic approximation, where 1/2 < alpha <= 1
    guarantees convergence. To get eta / sqrt(count + c), write `inverse_power_schedule(eta / sqrt(c), beta=1 / c)`.

    Args:
      init_value: The value at step 0.
      beta: Speed of the decay: at step `1 / beta` the value is `init_value * 2 ** -alpha`. Not negative.
      alpha: Power of the decay. Not negative; 0.5 (an inverse square root) by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.inverse_power_schedule(1.0, beta=1.0, alpha=1.0)(jnp.array([0, 1, 3])))
    [1.   0.5  0.25]
    >>> print(gx.inverse_power_schedule(6.0 / 2, beta=1 / 4)(jnp.array([0, 5, 12])))  # 6 / sqrt(t + 4)
    [3.  2.  1.5]

    References:
      Robbins and Monro, 1951, "A Stochastic Approximation Method".
    """

    init_value: Number = number()
    beta: Number = number(ge=0)
    alpha: Number = number(default=0.5, ge=0)

    def __call__(self, count: ArrayLike) -> Array:
        steps = jnp.asarray(count, jnp.result_type(float))
        return self.init_value * (self.beta * steps + 1) ** -self.alpha


class inverse_sqrt_schedule(Schedule):
    """Raises the learning rate linearly to a peak, then decays it by `sqrt(warmup_steps / count)`.

    The schedule of the original transformer. Use it if the length of the run is not known in advance. For a model of
    width d the paper uses init_value = 0 and peak_value = 1 / sqrt(d * warmup_steps). The paper counts steps from 1, so
    its first value is the value of step 1 here.

    Args:
      init_value: The value at step 0, usually 0.
      peak_value: The value at the end of the warm-up, the largest learning rate of the run.
      warmup_steps: Number of steps of the warm-up. Positive; after a longer warm-up the decay is also slower.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.inverse_sqrt_schedule(0.0, 1.0, warmup_steps=4)(jnp.array([0, 1, 2, 4, 16, 64])))
    [0.   0.25 0.5  1.   0.5  0.25]

    References:
      Vaswani et al., 2017, "Attention Is All You Need".
    """

    init_value: Number = number()
    peak_value: Number = number()
    warmup_steps: Number = number(gt=0)

    def __call__(self, count: ArrayLike) -> Array:
        steps = jnp.maximum(jnp.asarray(count, jnp.result_type(float)), self.warmup_steps)
        decay = self.peak_value * jnp.sqrt(self.warmup_steps / steps)
        return warmed_up(count, self.init_value, self.peak_value, self.warmup_steps, decay)
