"""Cosine schedules, eta_t = eta_min + (lr - eta_min) * (1 + cos(pi * s)) / 2, with s = t / T_max or s = T_cur / T_i.

Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts".
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.compat.torch.lr_scheduler.base import Rated, Setter, counts, fresh, length
from gradtx.core.hyper import Number, number
from gradtx.schedules.curves import half_cosine
from gradtx.schedules.cycles import cycle

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "cosine"]


def cosine(left: Array) -> Array:
    """Computes (1 + cos(pi (1 - left))) / 2; in float64 with the same rounding as PyTorch.

    In float32 the formula avoids the cancellation near 0. In float64 the cancellation is kept; its relative error is
    about 1e-16 divided by the value, for example 1e-12 one step before the end of 500 steps.
    """
    if left.dtype == jnp.float64:
        return (1 + jnp.cos(jnp.pi * (1 - left))) / 2
    return half_cosine(left)


class CosineAnnealingLR(Rated):
    """`torch.optim.lr_scheduler.CosineAnnealingLR`: half a cosine down to `eta_min` at step `T_max`, and up again.

    After `T_max` the learning rate continues along the cosine: it is back at `lr` at step 2 * T_max, and so on.
    `gx.cosine_decay_schedule` stays at its final value instead.

    Args:
      lr: Base learning rate, the learning rate at step 0. Not negative.
      T_max: Number of steps down to `eta_min`, a whole number. At least 1.
      eta_min: Smallest learning rate (default 0). Not negative.
      last_epoch: Must be -1.

    Example:
      >>> import numpy as np
      >>> from gradtx.compat.torch import lr_scheduler
      >>> print(np.round(np.asarray(lr_scheduler.CosineAnnealingLR(1.0, T_max=2)(np.arange(6))), 2))
      [1.  0.5 0.  0.5 1.  0.5]
    """

    T_max: Number = length()
    eta_min: Number = number(default=0.0, ge=0)
    last_epoch: int = fresh()

    def _cosine(self, t: Array) -> Array:
        now = cycle(t, self.T_max)
        # Computed from the distance to the nearest zero of the cosine, so that the value is exact there.
        return cosine(jnp.where(now.index % 2 == 0, now.left, now.position) / self.T_max)

    def __call__(self, count: ArrayLike) -> Array:
        return self.eta_min + (self.lr - self.eta_min) * self._cosine(counts(count))

    # --- The hooks for a ChainedScheduler, where eta_min is 0. At the step after a zero of the cosine PyTorch adds to
    # the learning rate; at all other steps it multiplies the learning rate.

    def _last_reset(self, t: Array) -> Array | None:
        # The step after a zero of the cosine, where the learning rate was 0 whatever the other schedulers did.
        now = cycle(jnp.maximum(t - 1, 0), self.T_max)
        steps = now.position + jnp.where(now.index % 2 == 0, self.T_max, 0)
        return jnp.where(now.index > 0, t - jnp.round(steps).astype(t.dtype), -1)

    def _factor_between(self, start: Any, t: Array) -> Array:
        now = self._cosine(t)
        if isinstance(start, int):
            return now
        before = self._cosine(jnp.maximum(start, 0))
        some = before != 0  # avoids a division by zero; after a zero `_advance` adds instead
        return jnp.where(some, now / jnp.where(some, before, 1), 1)

    def _replay_factor(self) -> Array:
        # An ordinary step 0 multiplies by F(0) / F(-1), the initial step 0 by F(0) = 1.
        return 1 / self._cosine_at_minus_one()

    def _cosine_at_minus_one(self) -> Array:
        """Returns F(-1), or 1/2 if F(-1) is zero: then PyTorch adds `lr`, which doubles the learning rate."""
        steps = jnp.asarray(self.T_max, jnp.result_type(float))
        return jnp.where(steps > 1, cosine((steps - 1) / steps), 0.5)

    def _advance(self, t: Array, rate: Array, *, replay_step_zero: bool) -> Array:
        extra = jnp.where(t == 0, self._replay_factor(), 1) if replay_step_zero else 1
        ratio = self._factor_between(t - 1, t) * extra
        return jnp.where(self._last_reset(t) == t, rate + self.lr * self._cosine_after_zero(), rate * ratio)

    def _cosine_after_zero(self) -> Array:
        return cosine(1 / jnp.asarray(self.T_max, jnp.result_type(float)))

    def _replayed(self, t: Array) -> Array:
        before_first_reset = self.eta_min + (self.lr - self.eta_min) * self._replay_factor() * self._cosine(t)
        return jnp.where(self._last_reset(t) == -1, before_first_reset, self(t))


class CosineAnnealingWarmRestarts(Setter):
    """`torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`: a cosine that restarts at the end of each cycle.

    The same schedule as `gx.cosine_restarts_schedule`, with PyTorch's names.

    Args:
      lr: Base learning rate, with which each cycle starts. Not negative.
      T_0: Number of steps in the first cycle, a whole number. At least 1.
      T_mult: Factor of the length from one cycle to the next, a whole number (default 1). At least 1.
      eta_min: Smallest learning rate (default 0). Not negative.
      last_epoch: Must be -1.

    Example:
      >>> import numpy as np
      >>> from gradtx.compat.torch import lr_scheduler
      >>> schedule = lr_scheduler.CosineAnnealingWarmRestarts(1.0, T_0=2, T_mult=2)
      >>> print(np.round(np.asarray(schedule(np.arange(8))), 2))
      [1.   0.5  1.   0.85 0.5  0.15 1.   0.96]
    """

    T_0: Number = length()
    T_mult: Number = length(1)
    eta_min: Number = number(default=0.0, ge=0)
    last_epoch: int = fresh()

    def __call__(self, count: ArrayLike) -> Array:
        now = cycle(counts(count), self.T_0, self.T_mult)
        return self.eta_min + (self.lr - self.eta_min) * cosine(now.left / now.length)
