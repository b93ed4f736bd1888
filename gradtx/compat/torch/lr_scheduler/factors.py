"""Schedulers that multiply the base rate: eta_t = lr * F(t).

    LambdaLR          F(t) = f(t)
    MultiplicativeLR  F(t) = f(1) * ... * f(t)
    StepLR            F(t) = gamma^floor(t / step_size)
    MultiStepLR       F(t) = gamma^n, with n milestones up to t
    ConstantLR        F(t) = factor for t < total_iters, and 1 from there on
    LinearLR          F(t) = start_factor * (1 - s) + end_factor * s,   s = min(t / total_iters, 1)
    ExponentialLR     F(t) = gamma^t
    PolynomialLR      F(t) = (1 - s)^power

PyTorch multiplies the rate by F(t) / F(t-1) at step t; `LambdaLR` alone sets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.compat.torch.lr_scheduler.base import Factor, Setter, fresh, length, of_steps, whole
from gradtx.core.hyper import Number, number
from gradtx.core.value import field
from gradtx.schedules.clock import apart, fraction_left, power, since
from gradtx.schedules.cycles import cycle
from gradtx.schedules.factors import lambda_schedule, multiplicative_schedule

__all__ = [
    "ConstantLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]


class LambdaLR(Setter):
    """`torch.optim.lr_scheduler.LambdaLR`: `lr * lr_lambda(t)`.

    It is `gx.lambda_schedule` with PyTorch's names.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      lr_lambda: A function of the step, written with `jax.numpy`: `jnp.minimum`, not `min`.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.LambdaLR(1.0, lambda epoch: 0.5**epoch)(jnp.arange(4)))
    [1.    0.5   0.25  0.125]
    """

    lr_lambda: Callable[[Any], Any] = of_steps()
    last_epoch: int = fresh()

    def __call__(self, count: ArrayLike) -> Array:
        return lambda_schedule(self.lr, self.lr_lambda)(count)


class MultiplicativeLR(Factor):
    """`torch.optim.lr_scheduler.MultiplicativeLR`: multiplies the learning rate by `lr_lambda(t)` at every step t > 0.

    It is `gx.multiplicative_schedule` with PyTorch's names, and calls the function once for each step so far. In
    `SequentialLR` it continues from the current learning rate, and calls the function for its own step 0, too.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      lr_lambda: A function of the step, written with `jax.numpy`, that returns the factor.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.MultiplicativeLR(1.0, lambda epoch: 0.5)(jnp.arange(4)))
    [1.    0.5   0.25  0.125]
    """

    lr_lambda: Callable[[Any], Any] = of_steps()
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        return multiplicative_schedule(1.0, self.lr_lambda)(t)

    def _replay_factor(self) -> Array:
        return lambda_schedule(1.0, self.lr_lambda)(0)

    def _factor_between(self, start: Any, t: Array) -> Array:
        if isinstance(start, int):
            return self._factor(t)

        def one(start: Array, t: Array) -> Array:
            return multiplicative_schedule(1.0, lambda s: jnp.where(s > start, self.lr_lambda(s), 1))(t)

        start, t = jnp.broadcast_arrays(start, t)
        return jax.vmap(one)(start.reshape(-1), t.reshape(-1)).reshape(t.shape)


class StepLR(Factor):
    """`torch.optim.lr_scheduler.StepLR`: multiplies the learning rate by `gamma` after every `step_size` steps.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      step_size: Number of steps between two changes. At least 1.
      gamma: Factor of each change. Not negative; 0.1 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.StepLR(1.0, step_size=2, gamma=0.5)(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]
    """

    step_size: Number = length()
    gamma: Number = number(default=0.1, ge=0)
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        return power(self.gamma, apart(cycle(t, self.step_size).index))

    def _factor_between(self, start: Any, t: Array) -> Array:
        before = cycle(jnp.maximum(start, 0), self.step_size).index
        return power(self.gamma, apart(cycle(t, self.step_size).index - before))


def _check_milestones(who: str, name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) != 1:
        raise TypeError(f"{who}: {name} must be a list of steps, got {checks.shown(value)}.")
    return tuple(whole(who, f"{name}[{i}]", step, ge=0) for i, step in enumerate(value))


def _milestones() -> Any:
    return field(_check_milestones, dynamic=True)


class MultiStepLR(Factor):
    """`torch.optim.lr_scheduler.MultiStepLR`: multiplies the learning rate by `gamma` at every milestone.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      milestones: A list of steps. As in PyTorch their order does not matter, a step that occurs twice counts twice,
        and the list may be empty; `gx.multistep_schedule` only takes sorted steps.
      gamma: Factor of each change. Not negative; 0.1 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.MultiStepLR(1.0, [4, 1, 4], gamma=0.5)(jnp.arange(6)))
    [1.    0.5   0.5   0.5   0.125 0.125]
    """

    milestones: Any = _milestones()
    gamma: Number = number(default=0.1, ge=0)
    last_epoch: int = fresh()

    def _count(self, t: Array) -> Array:
        return sum((since(t, m) >= 0 for m in self.milestones), jnp.zeros(jnp.shape(t), jnp.result_type(float)))

    def _factor(self, t: Array) -> Array:
        count = self._count(t)
        return jnp.asarray(self.gamma, count.dtype) ** count

    def _factor_between(self, start: Any, t: Array) -> Array:
        count = self._count(t) - jnp.where(jnp.asarray(start) < 0, 0, self._count(jnp.maximum(start, 0)))
        return jnp.asarray(self.gamma, count.dtype) ** count


class ConstantLR(Factor):
    """`torch.optim.lr_scheduler.ConstantLR`: multiplies the learning rate by `factor` for the first `total_iters`
    steps.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      factor: The factor. PyTorch later divides by it; here it may be 0. In [0, 1]; 1/3 by default.
      total_iters: Number of steps with the factor. 5 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.ConstantLR(1.0, factor=0.5, total_iters=2)(jnp.arange(4)))
    [0.5 0.5 1.  1. ]
    """

    factor: Number = number(default=1.0 / 3, ge=0, le=1)
    total_iters: Number = length(5)
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        factor = jnp.asarray(self.factor, jnp.result_type(float))
        return jnp.where(since(t, self.total_iters) < 0, factor, 1)


class LinearLR(Factor):
    """`torch.optim.lr_scheduler.LinearLR`: multiplies the learning rate by a factor that changes linearly.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      start_factor: The factor at step 0. In (0, 1]; 1/3 by default.
      end_factor: The factor from step `total_iters` on. In [0, 1]; 1 by default.
      total_iters: Number of steps of the change. 5 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.LinearLR(1.0, start_factor=0.25, total_iters=3)(jnp.arange(5)))
    [0.25 0.5  0.75 1.   1.  ]
    """

    start_factor: Number = number(default=1.0 / 3, gt=0, le=1)
    end_factor: Number = number(default=1.0, ge=0, le=1)
    total_iters: Number = length(5)
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        # Both fractions by themselves: neither of two factors that are far apart is lost in the other.
        left = fraction_left(t, self.total_iters)
        steps = since(t, 0).astype(left.dtype)
        return self.start_factor * left + self.end_factor * jnp.clip(steps / self.total_iters, 0, 1)


class ExponentialLR(Factor):
    """`torch.optim.lr_scheduler.ExponentialLR`: multiplies the learning rate by `gamma` at every step.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      gamma: Factor of every step. Not negative.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.ExponentialLR(1.0, gamma=0.5)(jnp.arange(4)))
    [1.    0.5   0.25  0.125]
    """

    gamma: Number = number(ge=0)
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        return power(self.gamma, apart(t))

    def _replay_factor(self) -> Any:
        return self.gamma

    def _factor_between(self, start: Any, t: Array) -> Array:
        return power(self.gamma, apart(t - jnp.maximum(start, 0)))


class PolynomialLR(Factor):
    """`torch.optim.lr_scheduler.PolynomialLR`: decays the learning rate to 0 along (1 - t / total_iters)^power.

    Args:
      lr: The base learning rate, which PyTorch takes from the optimizer. Not negative.
      total_iters: Number of steps until 0 is reached. 5 by default.
      power: Degree of the polynomial. Not negative; 1 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch import lr_scheduler
    >>> print(lr_scheduler.PolynomialLR(1.0, total_iters=2, power=2.0)(jnp.arange(4)))
    [1.   0.25 0.   0.  ]
    """

    total_iters: Number = length(5)
    power: Number = number(default=1.0, ge=0)
    last_epoch: int = fresh()

    def _factor(self, t: Array) -> Array:
        left = fraction_left(t, self.total_iters)
        some = left > 0  # at 0 a root has no derivative
        end = (jnp.asarray(self.power) == 0).astype(left.dtype)
        return jnp.where(some, jnp.where(some, left, 1) ** self.power, end)

    def _replay_factor(self) -> Any:
        return (self.total_iters / (self.total_iters + 1)) ** self.power
