"""Rates that rise and fall: CyclicLR, OneCycleLR, and the momentum that moves against them.

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
    """The momentum of a `CyclicLR` or `OneCycleLR` as a schedule; the property `momentum` of the scheduler returns it.

    It is largest where the learning rate is smallest, and follows a curve of the same shape in between.

    Args:
      scheduler: The `CyclicLR` or `OneCycleLR`.

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
    """What the two have in common: their momentum."""

    def _cycles_momentum(self) -> bool:
        raise NotImplementedError

    @property
    def momentum(self) -> CycledMomentum:
        """The momentum as a schedule.

        Raises:
          ValueError: `cycle_momentum` is False.
        """
        if not self._cycles_momentum():
            raise ValueError(f"{type(self).__name__}: with cycle_momentum=False there is no schedule of the momentum.")
        return CycledMomentum(self)


def _check_scale_fn(who: str, name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{who}: {name} must be a function or None, got {checks.shown(value)}.")
    return value


class CyclicLR(_Cycled):
    """`torch.optim.lr_scheduler.CyclicLR`: moves the learning rate from `base_lr` up to `max_lr` and down again, in
    triangles.

    Args:
      lr: Stands for `base_lr` if that is missing: PyTorch overwrites the optimizer's learning rate by it.
      base_lr: The lowest learning rate. Not negative.
      max_lr: The highest learning rate of the first cycle. Not negative.
      step_size_up: Number of steps up. 2000 by default.
      step_size_down: Number of steps down. None (default) for as many as up.
      mode: How the height of cycle i (from 1) changes: 'triangular' (default) keeps it, 'triangular2' multiplies it
        by 2^(1-i), and 'exp_range' by `gamma` at every step. Unused with `scale_fn`.
      gamma: Factor per step of 'exp_range'. In (0, 1]; 1 by default.
      scale_fn: A function that returns the factor of the height. None (default) to use `mode`.
      scale_mode: What `scale_fn` gets: the number of the 'cycle' (default), from 1, or the step ('iterations').
      cycle_momentum: Whether the property `momentum` gives a schedule of the momentum. True by default.
      base_momentum: The lowest momentum, at the highest learning rate. 0.8 by default.
      max_momentum: The highest momentum, at the lowest learning rate. 0.9 by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

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
            raise TypeError("CyclicLR: base_lr is missing: give the rate at which a cycle begins.")
        if self.max_lr is None:
            raise TypeError("CyclicLR: max_lr is missing: give the rate at the peak of a cycle.")
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
    """`torch.optim.lr_scheduler.OneCycleLR`: raises the learning rate to `max_lr`, then lowers it to much less than at
    the start.

    The phases end at the steps

        p N - 1                N - 1            max_lr / div_factor, max_lr, max_lr / div_factor / final_div_factor
        p N - 1,  2 p N - 2,   N - 1            with `three_phase`: the first learning rate again before the last

    The N steps are 0 to N - 1. PyTorch takes one more, past the end of its last phase, and raises after it. Here
    the value of step N is kept, but is at least 0, which a line would cross.

    Args:
      lr: Stands for `max_lr` if that is missing: PyTorch overwrites the optimizer's learning rate.
      max_lr: The highest learning rate. Not negative.
      total_steps: Number of steps N. None (default) for `epochs * steps_per_epoch`.
      epochs: Number of epochs, if `total_steps` is missing.
      steps_per_epoch: Number of steps per epoch, if `total_steps` is missing.
      pct_start: Fraction p of the steps in which the learning rate rises. In [0, 1]; 0.3 by default.
      anneal_strategy: The curve between two points: 'cos' (half a cosine, the default) or 'linear'.
      cycle_momentum: Whether the property `momentum` gives a schedule of the momentum. True by default.
      base_momentum: The lowest momentum, at the highest learning rate. 0.85 by default.
      max_momentum: The highest momentum. 0.95 by default.
      div_factor: Ratio of `max_lr` to the first learning rate. Positive; 25 by default.
      final_div_factor: Ratio of the first learning rate to the last. Positive; 1e4 by default.
      three_phase: Whether to return to the first learning rate before the last phase. False by default.
      last_epoch: Must be -1 (default); accepted for compatibility: a schedule has no state to resume.

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
            raise TypeError("OneCycleLR: max_lr is missing: give the rate at the peak.")
        if self.total_steps is None and (self.epochs is None or self.steps_per_epoch is None):
            raise ValueError("OneCycleLR: total_steps is missing: give it, or both epochs and steps_per_epoch.")
        rise = self.pct_start * self._steps()
        if leaf.is_number(rise) and rise == 1:
            raise ValueError(
                f"OneCycleLR: pct_start must not be {self.pct_start} for {self._steps()} steps: the rise would have no "
                "length. Give more steps, or another share of them."
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
        """From `first` at step `begin` to `last` at step `end`."""
        dtype = jnp.result_type(float)
        span = since(jnp.asarray(end, dtype), begin)
        some = span != 0  # PyTorch divides by it
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
