"""Combines schedulers: `SequentialLR` runs one scheduler after the other, `ChainedScheduler` all at the same time.

PyTorch's schedulers change the same learning rate in place: some multiply it by a factor F(t) / F(t-1), some set it
(`base.py` describes the kinds). Here a combination is a formula of the step t:

    SequentialLR      the scheduler that is active at t, evaluated at its own step t - milestone
    ChainedScheduler  lr * F_1(t) * ... * F_n(t) if all schedulers multiply. If a scheduler has set the learning rate (a
                      "reset", at step r): the value of this scheduler at t, times the others' factors since r

Step 0 is special. PyTorch runs it when a scheduler is created: `ExponentialLR`, for example, does not change the
learning rate at this step. If the first scheduler of a `SequentialLR` is itself a `SequentialLR` or `ChainedScheduler`,
PyTorch runs step 0 of the inner schedulers again ("replays" it), as an ordinary step: `ExponentialLR` then multiplies
the learning rate by `gamma`. The argument `replay_step_zero` and the hooks `_replay_factor` and `_replayed` handle this
case.

`base.py` lists the hooks (`_factor_between`, `_last_reset`, ...) through which both classes combine their schedulers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.compat.torch.lr_scheduler.base import Scheduler, Setter, counts, fresh, whole
from gradtx.compat.torch.lr_scheduler.cosine import CosineAnnealingLR
from gradtx.compat.torch.lr_scheduler.factors import MultiplicativeLR
from gradtx.core.value import child
from gradtx.schedules.clock import as_steps, since

__all__ = ["ChainedScheduler", "SequentialLR"]


def _check_schedulers(who: str, name: str, value: Any) -> tuple[Scheduler, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{who}: {name} must be a list of schedulers, got {checks.shown(value)}.")
    if not value:
        raise ValueError(f"{who}: {name} must hold at least one scheduler.")
    for i, item in enumerate(value):
        if not isinstance(item, Scheduler):
            raise TypeError(
                f"{who}: {name}[{i}] must be a scheduler of gradtx.compat.torch.lr_scheduler, got "
                f"{checks.shown(item)}. join_schedules and multiply_schedules take any schedule."
            )
    return tuple(value)


def _check_milestones(who: str, name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value := as_steps(value), Sequence) or isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a list of steps, got {checks.shown(value)}.")
    return tuple(whole(who, f"{name}[{i}]", step, ge=0) for i, step in enumerate(value))


class SequentialLR(Scheduler):
    """`torch.optim.lr_scheduler.SequentialLR`: switches to the next scheduler at every milestone.

    Each scheduler counts its steps from its milestone, and has its own base learning rate. As in PyTorch, the scheduler
    of a step is found by bisection: of two equal milestones the second counts, and if the milestones are not sorted,
    the scheduler is the one where the search ends. `MultiplicativeLR` continues from the learning rate just before its
    milestone.

    As in PyTorch, if the first scheduler is itself a `SequentialLR` or `ChainedScheduler`, its step 0 runs twice, the
    second time as an ordinary step. `ExponentialLR`, `PolynomialLR`, `MultiplicativeLR` and `CosineAnnealingLR` inside
    it then multiply the learning rate already at step 0, and its milestones come one step early. If a later scheduler
    is a `SequentialLR` or `ChainedScheduler`, PyTorch raises an error; here it starts like any other scheduler.

    Args:
      schedulers: List of the schedulers, in the order in which they run.
      milestones: List of the steps at which the second and further schedulers take over, with one entry fewer than
        `schedulers`.
      last_epoch: Must be -1.

    Example:
      >>> import jax.numpy as jnp
      >>> from gradtx.compat.torch.lr_scheduler import ExponentialLR, LinearLR, SequentialLR
      >>> warm, decay = LinearLR(1.0, start_factor=0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)
      >>> print(SequentialLR([warm, decay], milestones=[3])(jnp.arange(6)))
      [0.5  0.75 1.   1.   0.5  0.25]

    Raises:
      ValueError: The number of milestones is not the number of schedulers minus one; PyTorch's search would start a
        scheduler without setting its learning rate; a scheduler cannot take over at milestone 0; or the first scheduler
        is a combination whose step 0 cannot be repeated.
    """

    schedulers: tuple[Any, ...] = child(check=_check_schedulers)
    milestones: tuple[Any, ...] = child(check=_check_milestones)
    last_epoch: int = fresh()

    def __call__(self, count: ArrayLike) -> Array:
        return self._value(counts(count), self.milestones, len(self.milestones))

    def _value(self, t: Array, milestones: Sequence[Any], last: int, *, replay_step_zero: bool = False) -> Array:
        """Returns the learning rate at `t`, considering only the schedulers 0 to `last`."""

        def value(i: int) -> Array:
            scheduler = self.schedulers[i]
            if i == 0:
                replay = replay_step_zero or isinstance(scheduler, (SequentialLR, ChainedScheduler))
                return scheduler._replayed(t) if replay else scheduler(t)
            own_step = counts(since(t, milestones[i - 1]))
            if not isinstance(scheduler, MultiplicativeLR):
                return scheduler(own_step)
            # This scheduler continues from the learning rate before its milestone, and PyTorch runs its step 0 as an
            # ordinary step. `_factor_between(-1, ...)` includes the initial step 0; `_replay_factor` is the additional
            # factor of an ordinary step 0.
            step_before = _one_before(milestones[i - 1])
            rate_before = self._value(step_before, milestones, i - 1)
            return rate_before * scheduler._replay_factor() * scheduler._factor_between(-1, own_step)

        return self._select(t, milestones, value, 0, last)

    def _select(self, t: Array, milestones: Sequence[Any], value: Callable[[int], Array], low: int, high: int) -> Array:
        """Returns `value(i)` for the scheduler i that is active at `t`, by bisection between `low` and `high`."""
        if low == high:
            return value(low)
        middle = (low + high) // 2
        before = self._select(t, milestones, value, low, middle)
        after = self._select(t, milestones, value, middle + 1, high)
        return jnp.where(since(t, milestones[middle]) < 0, before, after)

    # --- The hooks, for a combination that contains this one.

    def _base_rate(self) -> Any:
        return self.schedulers[0]._base_rate()

    def _factor_between(self, start: Any, t: Array) -> Array:
        # Only the factors of the scheduler that is active at `t`: if `start` is before the latest reset, the caller
        # discards the result. Step 0 of a scheduler is a reset and has no factor.
        def factor(i: int) -> Array:
            begin = counts(self._begin(i))
            return self.schedulers[i]._factor_between(jnp.maximum(start - begin, 0), counts(t - begin))

        return self._select(t, self.milestones, factor, 0, len(self.milestones))

    def _last_reset(self, t: Array) -> Array | None:
        def last_reset(i: int) -> Array:
            begin = counts(self._begin(i))  # a scheduler sets the learning rate when it starts
            inner = self.schedulers[i]._last_reset(counts(t - begin))
            return jnp.broadcast_to(begin + (0 if inner is None else jnp.maximum(inner, 0)), t.shape)

        return self._select(t, self.milestones, last_reset, 0, len(self.milestones))

    def _begin(self, i: int) -> Any:
        """Returns the step at which scheduler i takes over."""
        return self.milestones[i - 1] if i else 0

    def _advance(self, t: Array, rate: Array, *, replay_step_zero: bool) -> Array:
        del replay_step_zero  # step 0 is a reset, so replaying it changes nothing
        return jnp.where(self._last_reset(t) == t, self(t), rate * self._factor_between(t - 1, t))

    def _replayed(self, t: Array) -> Array:
        # PyTorch counts step 0 twice, so the milestones come one step early.
        early = [_one_before(milestone) for milestone in self.milestones]
        return self._value(t, early, len(early), replay_step_zero=True)

    # --- The checks: for which combinations a formula of the step exists.

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ValueError(
                f"SequentialLR: milestones must have one entry fewer than schedulers, got {len(self.milestones)} for "
                f"{len(self.schedulers)} schedulers: a milestone is where the next scheduler takes over."
            )
        first = self.schedulers[0]
        if isinstance(first, SequentialLR):
            first._check_first()
        elif isinstance(first, ChainedScheduler) and any(isinstance(s, SequentialLR) for s in first._flat()):
            raise ValueError("SequentialLR: schedulers[0] must not be a ChainedScheduler with a SequentialLR in it.")
        known = all(leaf.is_number(m) for m in self.milestones)
        if known and list(self.milestones) != sorted(self.milestones):
            self._check_search()
        for milestone, scheduler in zip(self.milestones, self.schedulers[1:], strict=True):
            if leaf.is_number(milestone) and milestone == 0 and isinstance(scheduler, _NEEDS_PREVIOUS_STEP):
                raise ValueError(
                    f"SequentialLR: milestones must be at least 1 before a {type(scheduler).__name__}, got 0. "
                    "Leave out the schedulers that are never used."
                )

    def _check_first(self) -> None:
        """Raises if there is no formula for this scheduler as the first scheduler of another `SequentialLR`."""
        composed = isinstance(self.schedulers[0], (SequentialLR, ChainedScheduler))
        continues = any(isinstance(s, MultiplicativeLR) for s in self.schedulers[1:])
        if composed or continues or any(leaf.is_number(m) and m == 0 for m in self.milestones):
            raise ValueError(
                "SequentialLR: schedulers[0] must not be a SequentialLR that begins with a composition, has "
                "MultiplicativeLR at a later place or has a milestone at 0. Put its schedulers into this one's list."
            )

    def _check_search(self) -> None:
        """Raises if PyTorch's search in unsorted milestones enters a scheduler at a step that is not its milestone.

        PyTorch resets the learning rate only if the step is equal to the scheduler's milestone.
        """
        steps, found = list(self.milestones), 0
        for step in sorted(set(steps)):
            index = bisect_right(steps, step)
            if index != found and steps[index - 1] != step:
                raise ValueError(
                    f"SequentialLR: milestones must increase, got {steps}: PyTorch would come to schedulers[{index}] "
                    f"at step {step} without setting the learning rate. Sort them."
                )
            found = index
        if any(isinstance(s, MultiplicativeLR) for s in self.schedulers[1:]):
            raise ValueError(f"SequentialLR: milestones must increase for MultiplicativeLR, got {steps}. Sort them.")


class ChainedScheduler(Scheduler):
    """`torch.optim.lr_scheduler.ChainedScheduler`: multiplies one base learning rate by the factors of all schedulers.

    All schedulers must have the same base learning rate. Use it with `StepLR`, `MultiStepLR`, `ConstantLR`, `LinearLR`,
    `ExponentialLR`, `PolynomialLR` and `MultiplicativeLR`, which multiply the learning rate. Schedulers that set it
    behave as in PyTorch:

    - `CosineAnnealingLR` restarts from the base learning rate after each of its zeros, and the factors of the other
      schedulers restart as well.
    - `SequentialLR` sets the learning rate at step 0 and at its milestones. Factors of earlier steps are lost there.
    - `LambdaLR`, `CosineAnnealingWarmRestarts`, `CyclicLR` and `OneCycleLR` set the learning rate at every step.
      Schedulers before them have no effect. Schedulers after them contribute only the factor of the current step.

    `gx.multiply_schedules` multiplies the values of any schedules.

    Args:
      schedulers: List of the schedulers, all with the same base learning rate.

    Example:
      >>> import jax.numpy as jnp
      >>> from gradtx.compat.torch.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR
      >>> print(ChainedScheduler([ConstantLR(1.0, 0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)])(jnp.arange(4)))
      [0.5   0.25  0.25  0.125]

    Raises:
      ValueError: The base learning rates differ. Or `schedulers` contains a `CosineAnnealingLR` next to other
        schedulers, and its `eta_min` is not 0, or another scheduler also sets the learning rate; PyTorch's recursion
        has no formula for these cases. (If another scheduler sets the learning rate at every step, only a cosine inside
        a later `SequentialLR` raises the error.)
    """

    schedulers: tuple[Any, ...] = child(check=_check_schedulers)

    def __call__(self, count: ArrayLike) -> Array:
        return self._value(counts(count), replay_step_zero=False)

    def _value(self, t: Array, *, replay_step_zero: bool) -> Array:
        pieces = self._flat()
        if len(pieces) == 1:
            return pieces[0]._replayed(t) if replay_step_zero else pieces[0](t)
        setters = [i for i, piece in enumerate(pieces) if isinstance(piece, Setter)]
        if not setters:
            return self._product(pieces, t, replay_step_zero=replay_step_zero)
        # A `Setter` sets the learning rate at every step, so only the schedulers after the last `Setter` still change
        # it.
        value = pieces[setters[-1]](t)
        for piece in pieces[setters[-1] + 1 :]:
            value = piece._advance(t, value, replay_step_zero=replay_step_zero)
        return value

    def _flat(self) -> list[Any]:
        """Returns the schedulers, with each inner `ChainedScheduler` replaced by its schedulers."""
        return [x for s in self.schedulers for x in (s._flat() if isinstance(s, ChainedScheduler) else [s])]

    def _product(self, pieces: list[Any], t: Array, *, replay_step_zero: bool) -> Array:
        """Returns the learning rate at the latest reset by any of the pieces, times all factors since then."""
        value = self._base_rate()  # without a reset: the base rate times all factors
        for piece in pieces:
            value = value * piece._factor_between(-1, t) * (piece._replay_factor() if replay_step_zero else 1)
        latest = jnp.full(t.shape, -1)
        for i, piece in enumerate(pieces):
            reset = piece._last_reset(t)
            if reset is None:
                continue
            since_reset = _product_since_reset(pieces, i, reset, t, replay_step_zero=replay_step_zero)
            # -1 means that the piece has not reset yet. If two pieces reset at the same step, the later piece wins.
            value = jnp.where((reset >= latest) & (reset >= 0), since_reset, value)
            latest = jnp.maximum(latest, reset)
        return value

    # --- The hooks, for a `SequentialLR` that begins with this one.

    def _base_rate(self) -> Any:
        return self._flat()[0]._base_rate()

    def _replayed(self, t: Array) -> Array:
        return self._value(t, replay_step_zero=True)

    # --- The checks: which combinations PyTorch's steps have a formula for.

    def __post_init__(self) -> None:
        super().__post_init__()
        pieces = self._flat()
        if len(pieces) == 1:
            return
        rates = [piece._base_rate() for piece in pieces]
        for a, b in pairwise(rate for rate in rates if leaf.is_number(rate)):
            if a != b:
                raise ValueError(
                    f"ChainedScheduler: schedulers must have the same base rate, got {a!r} and {b!r}, because they act "
                    "on one learning rate. Give all the same one, or use gx.multiply_schedules for any schedules."
                )
        for piece in pieces:
            if isinstance(piece, SequentialLR):
                self._check_inner(piece)
        self._check_cosines(pieces)

    def _check_inner(self, piece: SequentialLR) -> None:
        """Raises if a `SequentialLR` in this one does not set the learning rate at each of its milestones."""
        composed = any(isinstance(s, (SequentialLR, ChainedScheduler)) for s in piece.schedulers)
        if composed or any(isinstance(s, MultiplicativeLR) for s in piece.schedulers[1:]):
            raise ValueError(
                "ChainedScheduler: a SequentialLR in schedulers must not hold a SequentialLR or ChainedScheduler, or "
                "MultiplicativeLR at a later place. Use gx.multiply_schedules for any schedules."
            )

    def _check_cosines(self, pieces: list[Any]) -> None:
        """Raises if a cosine adds to a learning rate that another scheduler set, or if its `eta_min` is not 0."""
        last = max((i for i, piece in enumerate(pieces) if isinstance(piece, Setter)), default=-1)
        if last >= 0:
            wrong = any(_cosines(piece) for piece in pieces[last + 1 :] if isinstance(piece, SequentialLR))
        else:
            setting = [piece for piece in pieces if isinstance(piece, (SequentialLR, CosineAnnealingLR))]
            wrong = bool(_cosines(self)) and len(setting) > 1
        if wrong or any(not leaf.is_number(cosine.eta_min) or cosine.eta_min for cosine in _cosines(self)):
            raise ValueError(
                "ChainedScheduler: CosineAnnealingLR must have eta_min=0, and no other scheduler may set the "
                "learning rate, because PyTorch's recursion has no formula otherwise. Use gx.multiply_schedules for "
                "any schedules, or SequentialLR for a warm-up before a cosine."
            )


def _product_since_reset(pieces: list[Any], i: int, reset: Array, t: Array, *, replay_step_zero: bool) -> Array:
    """Returns the learning rate at `t` if pieces[i] set it at step `reset` and the others multiplied it since."""
    value = pieces[i](t)
    for k, other in enumerate(pieces):
        if k < i:  # ran before pieces[i] at step `reset`, so its factor of this step is lost
            value = value * other._factor_between(reset, t)
        elif k > i:  # ran after pieces[i], so its factor of step `reset` counts as well
            factor = other._factor_between(reset - 1, t)
            if replay_step_zero:
                factor = jnp.where(reset == 0, other._replay_factor(), 1) * factor
            value = value * factor
    return value


def _one_before(step: Any) -> Array:
    return counts(since(step, 1))


def _cosines(scheduler: Any) -> list[CosineAnnealingLR]:
    """Returns all `CosineAnnealingLR` in a scheduler, at any depth."""
    if isinstance(scheduler, (SequentialLR, ChainedScheduler)):
        return [cosine for inner in scheduler.schedulers for cosine in _cosines(inner)]
    return [scheduler] if isinstance(scheduler, CosineAnnealingLR) else []


_NEEDS_PREVIOUS_STEP = (MultiplicativeLR, SequentialLR, ChainedScheduler)
"""Schedulers that cannot take over at milestone 0, which has no step before it.

`MultiplicativeLR` continues from the previous learning rate. A `SequentialLR` or `ChainedScheduler` cannot take over in
PyTorch.
"""
