"""Learning rates that rise and fall: CyclicLR, OneCycleLR, and the momentum that moves in the opposite direction.

Smith, 2017, "Cyclical Learning Rates for Training Neural Networks"; Smith and Topin, 2017, "Super-Convergence".
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.compat.torch.lr_scheduler.base import Setter, counts, fresh, length
from gradtx.compat.torch.lr_scheduler.cosine import cosine
from gradtx.core.hyper import Number, Schedule, number
from gradtx.core.value import child, flag, static
from gradtx.schedules.clock import since
from gradtx.schedules.cycles import cycle
from gradtx.schedules.cyclic import cyclic_schedule
from gradtx.schedules.factors import lambda_schedule

__all__ = ["CycledMomentum", "CyclicLR", "OneCycleLR"]

_MODES = ("triangular", "triangular2", "exp_range")


class CycledMomentum(Schedule):
    """The momentum of a `CyclicLR` or `OneCycleLR`, as a schedule; the property `momentum` of the scheduler returns it.

    The momentum is largest when the learning rate is smallest, and follows a curve of the same shape in between.

    Args:
      scheduler: The `CyclicLR` or `OneCycleLR`.

    Example:
      >>> import numpy as np
      >>> from gradtx.compat import torch
      >>> cycle = torch.lr_scheduler.CyclicLR(base_lr=0.0, max_lr=1.0, step_size_up=2)
      >>> print(np.round(np.asarray(cycle.momentum(np.arange(5))), 2))
      [0.9  0.85 0.8  0.85 0.9 ]
      >>> tx = torch.SGD(lr=cycle, momentum=cycle.momentum)
    """

    scheduler: Any = child()

    def __call__(self, count: ArrayLike) -> Array:
        return self.scheduler._momentum(counts(count))


class _Cycled(Setter):
    """Base class of both schedulers: the momentum."""

    def _cycles_momentum(self) -> bool:
        raise NotImplementedError

    @property
    def momentum(self) -> CycledMomentum:
        """The momentum as a schedule.

        Raises:
          ValueError: `cycle_momentum` is False.
        """
        if not self._cycles_momentum():
            raise ValueError(
                f"{type(self).__name__}: with cycle_momentum=False there is no schedule of the momentum. Leave "
                "cycle_momentum out."
            )
        return CycledMomentum(self)


def _check_scale_fn(who: str, name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{who}: {name} must be a function or None, got {checks.shown(value)}.")
    return value


class CyclicLR(_Cycled):
    """`torch.optim.lr_scheduler.CyclicLR`: from `base_lr` up to `max_lr` and down again, in triangles.

    The learning rate is eta_t = base_lr + (max_lr - base_lr) * x(t) * s(t). x rises from 0 to 1 in `step_size_up` steps
    and falls back to 0 in `step_size_down` steps. The scale s depends on `mode` or `scale_fn`.

    Args:
      lr: Another name for `base_lr`, accepted because PyTorch overwrites the optimizer's learning rate. None by
        default.
      base_lr: Learning rate at the beginning of a cycle. Not negative.
      max_lr: Learning rate at the peak of a cycle. Not negative.
      step_size_up: Number of steps up to the peak, a whole number (default 2000). At least 1.
      step_size_down: Number of steps down from the peak; by default (None) the same as `step_size_up`.
      mode: The scale s: 'triangular' (default) for 1, 'triangular2' for 2^(1 - i) in cycle i, counted from 1,
        'exp_range' for gamma^t. Not used with `scale_fn`.
      gamma: Base of 'exp_range' (default 1). In (0, 1].
      scale_fn: Function that returns s, or None for the scale that `mode` gives (default).
      scale_mode: Argument of `scale_fn`: 'cycle' (default) for the number of the cycle, counted from 1, or 'iterations'
        for the step.
      cycle_momentum: Whether the property `momentum` has a schedule. Default True.
      base_momentum: Momentum at the peak of a cycle (default 0.8). Not negative.
      max_momentum: Momentum at the beginning of a cycle (default 0.9). Not negative.
      last_epoch: Must be -1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gradtx.compat.torch import lr_scheduler
      >>> schedule = lr_scheduler.CyclicLR(base_lr=0.0, max_lr=1.0, step_size_up=2, step_size_down=1)
      >>> print(schedule(jnp.arange(7)))
      [0.  0.5 1.  0.  0.5 1.  0. ]
    """

    lr: Number = number(default=None, ge=0, optional=True)
    base_lr: Number = number(default=None, ge=0, optional=True)
    max_lr: Number = number(default=None, ge=0, optional=True)
    step_size_up: Number = length(2000)
    step_size_down: Number = length(None, optional=True)
    mode: str = static(default="triangular")
    gamma: Number = number(default=1.0, gt=0, le=1)
    scale_fn: Any = static(default=None, check=_check_scale_fn)
    scale_mode: str = static(default="cycle", check=partial(checks.choice, options=("cycle", "iterations")))
    cycle_momentum: bool = flag(default=True)
    base_momentum: Number = number(default=0.8, ge=0)
    max_momentum: Number = number(default=0.9, ge=0)
    last_epoch: int = fresh()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr is None and self.base_lr is None:
            raise TypeError("CyclicLR: base_lr is missing: give the learning rate at the beginning of a cycle.")
        if self.max_lr is None:
            raise TypeError("CyclicLR: max_lr is missing: give the learning rate at the peak of a cycle.")
        if self.scale_fn is None:
            checks.choice("CyclicLR", "mode", self.mode, _MODES)

    def _base_rate(self) -> Any:
        return self.lr if self.base_lr is None else self.base_lr

    def _height(self, t: Array) -> Array:
        up, down = self.step_size_up, self.step_size_down
        if self.scale_fn is None:
            gamma = self.gamma if self.mode == "exp_range" else 1.0
            return cyclic_schedule(0.0, 1.0, up, down, self.mode, gamma)(t)
        if self.scale_mode == "cycle":
            scale = lambda_schedule(1.0, self.scale_fn)(cycle(t, up + (up if down is None else down)).index + 1)
        else:
            scale = lambda_schedule(1.0, self.scale_fn)(t)
        return cyclic_schedule(0.0, 1.0, up, down)(t) * scale

    def __call__(self, count: ArrayLike) -> Array:
        return self._base_rate() + (self.max_lr - self._base_rate()) * self._height(counts(count))

    def _cycles_momentum(self) -> bool:
        return self.cycle_momentum

    def _momentum(self, t: Array) -> Array:
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(t)


class OneCycleLR(_Cycled):
    """`torch.optim.lr_scheduler.OneCycleLR`: rises to `max_lr`, then falls far below the initial learning rate.

    With p = `pct_start` and N = `total_steps`, the phases end at these steps. Between two ends the curve is half a
    cosine or a line:

        p N - 1                N - 1            max_lr / div_factor, max_lr, max_lr / div_factor / final_div_factor
        p N - 1,  2 p N - 2,   N - 1            with `three_phase`: back to the first value before the last phase

    The steps are 0 to N - 1. PyTorch allows one more step, N, past the end of the last phase, and raises an error at
    later steps. Here the learning rate keeps the value of step N, or 0 if a line would fall below 0.

    Args:
      lr: Another name for `max_lr`, because PyTorch overwrites the optimizer's learning rate. None by default.
      max_lr: Learning rate at the peak. Not negative.
      total_steps: Number of steps N, a whole number; by default None, for `epochs * steps_per_epoch`.
      epochs: Number of epochs, if `total_steps` is None.
      steps_per_epoch: Number of steps in an epoch, if `total_steps` is None.
      pct_start: Fraction of the steps in which the learning rate rises (default 0.3). In [0, 1].
      anneal_strategy: Curve between the phases: 'cos' (default) or 'linear'.
      cycle_momentum: Whether the property `momentum` has a schedule. Default True.
      base_momentum: Momentum at the peak of the learning rate (default 0.85). Not negative.
      max_momentum: Momentum at the start and at the end (default 0.95). Not negative.
      div_factor: The initial learning rate is max_lr / div_factor (default 25). Positive.
      final_div_factor: The final learning rate is the initial learning rate divided by this factor (default 1e4).
        Positive.
      three_phase: Whether to return to the initial learning rate before the last phase. Default False.
      last_epoch: Must be -1.

    Example:
      >>> import numpy as np
      >>> from gradtx.compat.torch import lr_scheduler
      >>> schedule = lr_scheduler.OneCycleLR(max_lr=1.0, total_steps=10, div_factor=10.0, anneal_strategy="linear")
      >>> print(np.round(np.asarray(schedule(np.arange(10))), 2))
      [0.1  0.55 1.   0.86 0.71 0.57 0.43 0.29 0.14 0.  ]
    """

    lr: Number = number(default=None, ge=0, optional=True)
    max_lr: Number = number(default=None, ge=0, optional=True)
    total_steps: Number = length(None, optional=True)
    epochs: Number = length(None, optional=True)
    steps_per_epoch: Number = length(None, optional=True)
    pct_start: Number = number(default=0.3, ge=0, le=1)
    anneal_strategy: str = static(default="cos", check=partial(checks.choice, options=("cos", "linear")))
    cycle_momentum: bool = flag(default=True)
    base_momentum: Number = number(default=0.85, ge=0)
    max_momentum: Number = number(default=0.95, ge=0)
    div_factor: Number = number(default=25.0, gt=0)
    final_div_factor: Number = number(default=1e4, gt=0)
    three_phase: bool = flag(default=False)
    last_epoch: int = fresh()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr is None and self.max_lr is None:
            raise TypeError("OneCycleLR: max_lr is missing: give the learning rate at the peak.")
        if self.total_steps is None and (self.epochs is None or self.steps_per_epoch is None):
            raise ValueError("OneCycleLR: total_steps is missing: give it, or both epochs and steps_per_epoch.")
        rise = self.pct_start * self._steps()
        if leaf.is_number(rise) and rise == 1:
            raise ValueError(
                f"OneCycleLR: pct_start must not be {self.pct_start} for {self._steps()} steps: the rise would take no "
                "step. Give more steps, or another pct_start."
            )

    def _steps(self) -> Any:
        return self.epochs * self.steps_per_epoch if self.total_steps is None else self.total_steps

    def _peak(self) -> Any:
        return self.lr if self.max_lr is None else self.max_lr

    def _base_rate(self) -> Any:
        return self._peak() / self.div_factor

    def _curve(self, t: Array, first: Any, peak: Any, last: Any) -> Array:
        steps, share = self._steps(), self.pct_start
        t = jnp.where(since(t, steps) > 0, jnp.asarray(steps).astype(t.dtype), t)
        ends = [share * steps - 1, *([2 * share * steps - 2] if self.three_phase else []), steps - 1]
        points = [first, peak, *([first] if self.three_phase else []), last]
        pieces, begin = [], 0.0
        for end, low, high in zip(ends, points[:-1], points[1:], strict=True):
            pieces.append(self._anneal(t, begin, end, low, high))
            begin = end
        value = pieces[-1]
        for end, piece in zip(ends[-2::-1], pieces[-2::-1], strict=True):
            value = jnp.where(since(t, end) <= 0, piece, value)
        return jnp.maximum(value, 0)

    def _anneal(self, t: Array, begin: Any, end: Any, first: Any, last: Any) -> Array:
        """Returns the curve from `first` at step `begin` to `last` at step `end`."""
        dtype = jnp.result_type(float)
        span = since(jnp.asarray(end, dtype), begin)
        some = span != 0  # PyTorch divides by the span
        span = jnp.where(some, span, 1)
        if self.anneal_strategy == "linear":
            return first + (last - first) * jnp.where(some, since(t, begin).astype(dtype) / span, 0)
        return last + (first - last) * cosine(jnp.where(some, -since(t, end).astype(dtype) / span, 1))

    def __call__(self, count: ArrayLike) -> Array:
        return self._curve(counts(count), self._base_rate(), self._peak(), self._base_rate() / self.final_div_factor)

    def _cycles_momentum(self) -> bool:
        return self.cycle_momentum

    def _momentum(self, t: Array) -> Array:
        return self._curve(t, self.max_momentum, self.base_momentum, self.max_momentum)
