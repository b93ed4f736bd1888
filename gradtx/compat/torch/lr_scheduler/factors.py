"""Schedulers that multiply the base learning rate: eta_t = lr * F(t).

    LambdaLR          F(t) = f(t)
    MultiplicativeLR  F(t) = f(1) * ... * f(t)
    StepLR            F(t) = gamma^floor(t / step_size)
    MultiStepLR       F(t) = gamma^n, with n milestones up to t
    ConstantLR        F(t) = factor for t < total_iters, then 1
    LinearLR          F(t) = start_factor * (1 - s) + end_factor * s,   s = min(t / total_iters, 1)
    ExponentialLR     F(t) = gamma^t
    PolynomialLR      F(t) = (1 - s)^power

PyTorch multiplies the learning rate by F(t) / F(t-1) at step t; only `LambdaLR` sets it.
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
    """`torch.optim.lr_scheduler.LambdaLR`: the base learning rate times a function of the step.

    The same schedule as `gx.lambda_schedule`, with PyTorch's names.

    Args:
      lr: Base learning rate. Not negative.
      lr_lambda: Function of the step that returns the factor. Write it with `jax.numpy`, such as `jnp.minimum` in place
        of `min`.
      last_epoch: Must be -1.

    Example:
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
    """`torch.optim.lr_scheduler.MultiplicativeLR`: multiplies the learning rate by a function at every step.

    The same schedule as `gx.multiplicative_schedule`, with PyTorch's names. To compute the learning rate at step t, it
    calls the function t times. In `SequentialLR` it continues from the current learning rate, and also calls the
    function for its step 0.

    Args:
      lr: Base learning rate, the learning rate at step 0. Not negative.
      lr_lambda: Function of the step that returns the factor at this step; called for steps after 0. Write it with
        `jax.numpy`.
      last_epoch: Must be -1.

    Example:
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
      lr: Base learning rate, the learning rate at step 0. Not negative.
      step_size: Number of steps between two reductions, a whole number. At least 1.
      gamma: Factor of each reduction (default 0.1). Not negative.
      last_epoch: Must be -1.

    Example:
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
      lr: Base learning rate, the learning rate at step 0. Not negative.
      milestones: List of the steps at which to multiply. As in PyTorch, their order does not matter, a milestone that
        occurs twice counts twice, and the list may be empty; `gx.multistep_schedule` requires sorted milestones.
      gamma: Factor at each milestone (default 0.1). Not negative.
      last_epoch: Must be -1.

    Example:
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
    """`torch.optim.lr_scheduler.ConstantLR`: multiplies the learning rate by `factor` during the first steps.

    Args:
      lr: Base learning rate, used from step `total_iters` on. Not negative.
      factor: Factor before step `total_iters` (default 1/3). In [0, 1]. Unlike in PyTorch, which later divides by the
        factor, it may be 0.
      total_iters: Number of steps with the factor, an integer (default 5). At least 1.
      last_epoch: Must be -1.

    Example:
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
    """`torch.optim.lr_scheduler.LinearLR`: a factor that changes linearly from `start_factor` to `end_factor`.

    Args:
      lr: Base learning rate. Not negative.
      start_factor: Factor at step 0 (default 1/3). In (0, 1].
      end_factor: Factor from step `total_iters` on (default 1). In [0, 1].
      total_iters: Number of steps of the line, a whole number (default 5). At least 1.
      last_epoch: Must be -1.

    Example:
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
        # Each factor has its own fraction, so that a small factor is not lost by rounding next to a large factor.
        left = fraction_left(t, self.total_iters)
        steps = since(t, 0).astype(left.dtype)
        return self.start_factor * left + self.end_factor * jnp.clip(steps / self.total_iters, 0, 1)


class ExponentialLR(Factor):
    """`torch.optim.lr_scheduler.ExponentialLR`: multiplies the learning rate by `gamma` at every step.

    Args:
      lr: Base learning rate, the learning rate at step 0. Not negative.
      gamma: Factor of each step, such as 0.99. Not negative.
      last_epoch: Must be -1.

    Example:
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
    """`torch.optim.lr_scheduler.PolynomialLR`: decays the learning rate along (1 - t / total_iters)^power to 0.

    Args:
      lr: Base learning rate, the learning rate at step 0. Not negative.
      total_iters: Number of steps down to 0, a whole number (default 5). At least 1.
      power: Exponent (default 1, a line). Not negative.
      last_epoch: Must be -1.

    Example:
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
        some = left > 0  # the derivative of a root at 0 is infinite
        end = (jnp.asarray(self.power) == 0).astype(left.dtype)
        return jnp.where(some, jnp.where(some, left, 1) ** self.power, end)

    def _replay_factor(self) -> Any:
        return (self.total_iters / (self.total_iters + 1)) ** self.power
