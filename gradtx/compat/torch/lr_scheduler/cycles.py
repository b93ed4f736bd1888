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
    """The momentum of a `CyclicLR` or `OneCycleLR`, a schedule like any other; the scheduler's `momentum` gives it.

    It is largest where the rate is smallest, and in between on a curve of the same shape.

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
    """`torch.optim.lr_scheduler.CyclicLR`: from `base_lr` up to `max_lr` and down again, in triangles.

    eta_t = base_lr + (max_lr - base_lr) * x(t) * s(t), with x from 0 to 1 in `step_size_up` steps and back in
    `step_size_down` (None for as many), and s = 1 ("triangular"), 2^(1-i) in cycle i ("triangular2"), gamma^t
    ("exp_range"), or `scale_fn` of the cycle, from 1, or of the step ("iterations"). With a `scale_fn`, `mode` and
    `gamma` say nothing; without one, `scale_mode` does not. `gamma` is in (0, 1].

    PyTorch overwrites the optimizer's rate with `base_lr`, so `lr` may be left out, or stand for `base_lr`.

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
    """`torch.optim.lr_scheduler.OneCycleLR`: up to `max_lr`, and down to much less than at the start.

    The phases end at the steps

        p N - 1                N - 1            max_lr / div_factor, max_lr, max_lr / div_factor / final_div_factor
        p N - 1,  2 p N - 2,   N - 1            with `three_phase`: the first rate again before the last

    with p = `pct_start` and N = `total_steps`, or `epochs * steps_per_epoch`; between them is half a cosine or a line.
    `total_steps` steps are 0 to N - 1. PyTorch takes one more, past the end of its last phase, and raises after
    it; here the rate of step N holds, but at least 0, which a line would pass.

    PyTorch overwrites the optimizer's rate, so `lr` may be left out, or stand for `max_lr`.

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
