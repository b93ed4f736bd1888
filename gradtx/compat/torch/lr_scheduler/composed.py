"""Schedulers made of others: SequentialLR, one after the other, and ChainedScheduler, all at once.

    SequentialLR      eta_t = eta_i(t - milestone_i)
    ChainedScheduler  eta_t = lr * F_1(t) * ... * F_n(t)

The second holds for factors. Others set the rate at some steps, and what came before is lost there, as in PyTorch:
from the last such step on the others' factors count from it.
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
from gradtx.schedules.clock import since

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
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a list of steps, got {checks.shown(value)}.")
    return tuple(whole(who, f"{name}[{i}]", step, ge=0) for i, step in enumerate(value))


def _cosines(scheduler: Any) -> list[CosineAnnealingLR]:
    """The cosines in a scheduler."""
    if isinstance(scheduler, (SequentialLR, ChainedScheduler)):
        return [cosine for inner in scheduler.schedulers for cosine in _cosines(inner)]
    return [scheduler] if isinstance(scheduler, CosineAnnealingLR) else []


class SequentialLR(Scheduler):
    """`torch.optim.lr_scheduler.SequentialLR`: the next scheduler at every milestone, each with its own clock.

    Each has its own base rate. There is one milestone fewer than schedulers. PyTorch looks for the scheduler of a step
    by bisection: of two equal milestones the second counts, and milestones that are not sorted are taken as the search
    happens to find them. `MultiplicativeLR` goes on with the rate that it finds.

    PyTorch takes step 0 of a `ChainedScheduler` or `SequentialLR` at the first place like any other step, which
    `ExponentialLR`, `PolynomialLR`, `MultiplicativeLR` and `CosineAnnealingLR` in it notice, and the inner milestones
    come a step early; so here. At later places PyTorch raises; here they begin as they would by themselves.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch.lr_scheduler import ExponentialLR, LinearLR, SequentialLR
    >>> warm, decay = LinearLR(1.0, start_factor=0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)
    >>> print(SequentialLR([warm, decay], milestones=[3])(jnp.arange(6)))
    [0.5  0.75 1.   1.   0.5  0.25]

    Raises:
      ValueError: not one milestone fewer than schedulers; a milestone that the search enters without PyTorch's reset
        of the rate, or that must not be 0; a composition in a composition in a composition at the first place.
    """

    schedulers: tuple[Any, ...] = child(check=_check_schedulers)
    milestones: tuple[Any, ...] = child(check=_check_milestones)
    last_epoch: int = fresh()

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
            if leaf.is_number(milestone) and milestone == 0 and isinstance(scheduler, _LATER):
                raise ValueError(
                    f"SequentialLR: milestones must be at least 1 before a {type(scheduler).__name__}, got 0. "
                    "Leave out the schedulers that are never used."
                )

    def _check_first(self) -> None:
        """Raises if PyTorch cannot be followed with this at the first place of another one."""
        composed = isinstance(self.schedulers[0], (SequentialLR, ChainedScheduler))
        goes_on = any(isinstance(s, MultiplicativeLR) for s in self.schedulers[1:])
        if composed or goes_on or any(leaf.is_number(m) and m == 0 for m in self.milestones):
            raise ValueError(
                "SequentialLR: schedulers[0] must not be a SequentialLR that begins with a composition, has "
                "MultiplicativeLR at a later place or has a milestone at 0. Put its schedulers into this one's list."
            )

    def _check_search(self) -> None:
        steps, found = list(self.milestones), 0
        for step in sorted(set(steps)):
            index = bisect_right(steps, step)
            if index != found and steps[index - 1] != step:
                raise ValueError(
                    f"SequentialLR: milestones must increase, got {steps}: PyTorch would come to schedulers[{index}] "
                    f"at step {step} without setting the rate. Sort them."
                )
            found = index
        if any(isinstance(s, MultiplicativeLR) for s in self.schedulers[1:]):
            raise ValueError(f"SequentialLR: milestones must increase for MultiplicativeLR, got {steps}. Sort them.")

    def _rate(self) -> Any:
        return self.schedulers[0]._rate()

    def _pick(self, t: Array, milestones: Sequence[Any], of: Callable[[int], Array], low: int, high: int) -> Array:
        """`of(i)` for the scheduler i of each step, by PyTorch's search among those from `low` to `high`."""
        if low == high:
            return of(low)
        middle = (low + high) // 2
        before = self._pick(t, milestones, of, low, middle)
        return jnp.where(since(t, milestones[middle]) < 0, before, self._pick(t, milestones, of, middle + 1, high))

    def _values(self, t: Array, milestones: Sequence[Any], *, again: bool = False, last: int | None = None) -> Array:
        def value(i: int) -> Array:
            scheduler = self.schedulers[i]
            if i == 0:
                composed = isinstance(scheduler, (SequentialLR, ChainedScheduler))
                return scheduler._replayed(t) if again or composed else scheduler(t)
            own = counts(since(t, milestones[i - 1]))
            if not isinstance(scheduler, MultiplicativeLR):
                return scheduler(own)
            before = self._values(counts(since(milestones[i - 1], 1)), milestones, last=i - 1)
            return before * scheduler._again() * scheduler._passed(-1, own)

        return self._pick(t, milestones, value, 0, len(milestones) if last is None else last)

    def __call__(self, count: ArrayLike) -> Array:
        return self._values(counts(count), self.milestones)

    def _replayed(self, t: Array) -> Array:
        return self._values(t, [counts(since(m, 1)) for m in self.milestones], again=True)

    # --- in a chain

    def _begin(self, i: int) -> Any:
        return self.milestones[i - 1] if i else 0

    def _set_at(self, t: Array) -> Array | None:
        def at(i: int) -> Array:
            begin = counts(self._begin(i))
            inner = self.schedulers[i]._set_at(counts(t - begin))
            return jnp.broadcast_to(begin + (0 if inner is None else jnp.maximum(inner, 0)), t.shape)

        return self._pick(t, self.milestones, at, 0, len(self.milestones))

    def _passed(self, start: Any, t: Array) -> Array:
        def passed(i: int) -> Array:
            begin = counts(self._begin(i))
            return self.schedulers[i]._passed(jnp.maximum(start - begin, 0), counts(t - begin))

        return self._pick(t, self.milestones, passed, 0, len(self.milestones))

    def _stepped(self, t: Array, rate: Array, *, again: bool) -> Array:
        return jnp.where(self._set_at(t) == t, self(t), rate * self._passed(t - 1, t))


class ChainedScheduler(Scheduler):
    """`torch.optim.lr_scheduler.ChainedScheduler`: the product of the schedulers' factors on one base rate.

    All have the same base rate, and the first one's counts. So it is for `StepLR`, `MultiStepLR`, `ConstantLR`,
    `LinearLR`, `ExponentialLR`, `PolynomialLR` and `MultiplicativeLR`. Others do what they do in PyTorch:

    - `CosineAnnealingLR` begins again from the base rate after each of its zeros, and with it all others' factors.
    - `SequentialLR` sets the rate at step 0 and at its milestones, and what came before is lost.
    - `LambdaLR`, `CosineAnnealingWarmRestarts`, `CyclicLR` and `OneCycleLR` set the rate at every step. Schedulers
      before them are without effect, and of those after them each step only counts once.

    `gx.multiply_schedules` multiplies whatever there is.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR
    >>> print(ChainedScheduler([ConstantLR(1.0, 0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)])(jnp.arange(4)))
    [0.5   0.25  0.25  0.125]

    Raises:
      ValueError: the base rates differ; `CosineAnnealingLR` has an `eta_min` other than 0, or meets another scheduler
        that sets the rate, unless it comes after one that does so at every step: PyTorch's recursion has no formula.
    """

    schedulers: tuple[Any, ...] = child(check=_check_schedulers)

    def __post_init__(self) -> None:
        super().__post_init__()
        pieces = self._flat()
        if len(pieces) == 1:
            return
        rates = [piece._rate() for piece in pieces]
        for a, b in pairwise(rate for rate in rates if leaf.is_number(rate)):
            if a != b:
                raise ValueError(
                    f"ChainedScheduler: schedulers must have the same base rate, got {a!r} and {b!r}: they act on one "
                    "rate. Give all the first one's; multiply_schedules multiplies any schedules."
                )
        for i, piece in enumerate(pieces):
            if isinstance(piece, SequentialLR):
                self._check_inner(i, piece)
        self._check_cosines(pieces)

    def _check_inner(self, i: int, piece: SequentialLR) -> None:
        composed = any(isinstance(s, (SequentialLR, ChainedScheduler)) for s in piece.schedulers)
        if composed or any(isinstance(s, MultiplicativeLR) for s in piece.schedulers[1:]):
            raise ValueError(
                f"ChainedScheduler: the SequentialLR schedulers[{i}] must not hold a composition, or MultiplicativeLR "
                "at a later place."
            )

    def _check_cosines(self, pieces: list[Any]) -> None:
        last = max((i for i, piece in enumerate(pieces) if isinstance(piece, Setter)), default=-1)
        if last >= 0:
            wrong = any(_cosines(piece) for piece in pieces[last + 1 :] if isinstance(piece, SequentialLR))
        else:
            setting = [piece for piece in pieces if isinstance(piece, (SequentialLR, CosineAnnealingLR))]
            wrong = bool(_cosines(self)) and len(setting) > 1
        if wrong or any(not leaf.is_number(cosine.eta_min) or cosine.eta_min for cosine in _cosines(self)):
            raise ValueError(
                "ChainedScheduler: CosineAnnealingLR must have eta_min=0, and no other scheduler beside it that sets "
                "the rate: PyTorch's recursion has no formula otherwise. multiply_schedules takes any schedules; a "
                "warm-up before a cosine is a SequentialLR."
            )

    def _flat(self) -> list[Any]:
        """The schedulers, with those of inner chains in their place."""
        return [x for s in self.schedulers for x in (s._flat() if isinstance(s, ChainedScheduler) else [s])]

    def _rate(self) -> Any:
        return self._flat()[0]._rate()

    def __call__(self, count: ArrayLike) -> Array:
        return self._values(counts(count), again=False)

    def _replayed(self, t: Array) -> Array:
        return self._values(t, again=True)

    def _values(self, t: Array, *, again: bool) -> Array:
        pieces = self._flat()
        if len(pieces) == 1:
            return pieces[0]._replayed(t) if again else pieces[0](t)
        setters = [i for i, piece in enumerate(pieces) if isinstance(piece, Setter)]
        if not setters:
            return self._product(pieces, t, again=again)
        value = pieces[setters[-1]](t)
        for piece in pieces[setters[-1] + 1 :]:
            value = piece._stepped(t, value, again=again)
        return value

    def _product(self, pieces: list[Any], t: Array, *, again: bool) -> Array:
        """The factors since the last step at which one of the schedulers set the rate."""
        value = self._rate()
        for piece in pieces:
            value = value * piece._passed(-1, t) * (piece._again() if again else 1)
        latest = jnp.full(t.shape, -1)
        for i, piece in enumerate(pieces):
            at = piece._set_at(t)
            if at is None:
                continue
            one = piece(t)
            for k, other in enumerate(pieces):  # those after it still take the step at which it sets the rate
                if k != i:
                    factor = other._passed(at if k < i else at - 1, t)
                    one = one * (jnp.where(at == 0, other._again(), 1) * factor if again and k > i else factor)
            value = jnp.where((at >= latest) & (at >= 0), one, value)
            latest = jnp.maximum(latest, at)
        return value


_LATER = (MultiplicativeLR, SequentialLR, ChainedScheduler)
