"""Base classes of PyTorch's schedulers: their fields, and the hooks that `SequentialLR` and `ChainedScheduler` use.

PyTorch's schedulers change the optimizer's learning rate in place. So the effect of several schedulers on a learning
rate depends on how each scheduler uses the current learning rate. There are three kinds of schedulers:

    a factor    eta_t = eta_(t-1) * F(t) / F(t-1)
    a setter    eta_t does not depend on the previous learning rate
    the cosine  eta_t = an affine map of eta_(t-1)

`Scheduler` has one hook for each question that a composition (`SequentialLR`, `ChainedScheduler`) asks:

    _base_rate()               the initial learning rate of the scheduler
    _factor_between(start, t)  the product of the factors at the steps start + 1, ..., t; start = -1 includes step 0
    _last_reset(t)             the latest step up to t at which the scheduler set the learning rate, so that earlier
                               factors have no effect. -1 if no such step has come yet, None if it never comes
    _advance(t, rate, ...)     the learning rate after step t, from the learning rate before step t
    _replay_factor()           the ratio of an ordinary step 0 to the initial one
    _replayed(t)               the learning rate at t if step 0 is replayed

"Replayed": if the first scheduler of a `SequentialLR` is a composition, PyTorch runs its step 0 again, as an ordinary
step. `ExponentialLR`, for example, does not change the learning rate at its initial step 0, but an ordinary step 0
multiplies it by `gamma`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.core.hyper import Limits, Number, Schedule, number
from gradtx.core.value import field, function, static

__all__ = ["Factor", "Rated", "Scheduler", "Setter", "counts", "fresh", "length", "of_steps", "whole"]


def counts(count: ArrayLike) -> Array:
    """Converts steps to integers of JAX's default width."""
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        count = jnp.floor(count)
    return jnp.maximum(count.astype(jnp.result_type(int)), 0)


def whole(who: str, name: str, value: Any, *, ge: int = 1) -> Any:
    """Checks a number of steps: an integer of at least `ge`, or an array."""
    value = Limits(ge=ge).check(who, name, value, schedules=False)
    if leaf.is_number(value) and not float(value).is_integer():
        raise ValueError(f"{who}: {name} must be a whole number of steps, got {value!r}. Round it.")
    return value


def length(*default: Any, optional: bool = False) -> Any:
    """Declares a field that is a number of steps, or None if `optional`."""

    def check(who: str, name: str, value: Any) -> Any:
        return None if optional and value is None else whole(who, name, value)

    return field(check, dynamic=True, **({"default": default[0]} if default else {}))


def _check_fresh(who: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or value != -1:
        raise ValueError(
            f"{who}: {name} must be -1, got {value!r}: a schedule has no state to resume. Its value at step t is "
            "schedule(t), and an optimizer's state keeps the step."
        )
    return -1


def fresh() -> Any:
    """Declares the field `last_epoch`, which must be -1."""
    return static(default=-1, check=_check_fresh)


def of_steps() -> Any:
    """Declares a field that is a function of the step."""
    return static(check=function)


class Scheduler(Schedule):
    """A schedule that can take part in `SequentialLR` and `ChainedScheduler`."""

    def _base_rate(self) -> Any:
        """Returns the initial learning rate of the scheduler."""
        raise NotImplementedError

    def _factor_between(self, start: Any, t: Array) -> Array:
        """Returns the product of the factors at the steps after `start` up to `t`.

        `start` is -1 for all steps up to `t`, step 0 included.
        """
        raise NotImplementedError

    def _last_reset(self, t: Array) -> Array | None:
        """Returns the latest step up to `t` whose learning rate does not depend on the previous learning rate.

        It is -1 before the first such step. None means that the scheduler never resets the learning rate.
        """
        return None

    def _advance(self, t: Array, rate: Array, *, replay_step_zero: bool) -> Array:
        """Returns the learning rate after step `t`, from the learning rate `rate` before step `t`."""
        rate = rate * self._factor_between(t - 1, t)
        return jnp.where(t == 0, rate * self._replay_factor(), rate) if replay_step_zero else rate

    def _replay_factor(self) -> Any:
        """Returns the factor by which an ordinary step 0 differs from the initial one."""
        return 1.0

    def _replayed(self, t: Array) -> Array:
        """Returns the learning rate at `t` if step 0 is run as an ordinary step."""
        return self(t) * self._replay_factor()


class Rated(Scheduler):
    """A scheduler with the field `lr`, its base learning rate."""

    lr: Number = number(ge=0)

    def _base_rate(self) -> Any:
        return self.lr


class Factor(Rated):
    """Multiplies the base learning rate: eta_t = lr * F(t)."""

    def _factor(self, t: Array) -> Array:
        """Returns F(t)."""
        raise NotImplementedError

    def __call__(self, count: ArrayLike) -> Array:
        return self.lr * self._factor(counts(count))

    def _factor_between(self, start: Any, t: Array) -> Array:
        now = self._factor(t)
        if isinstance(start, int):  # -1 is the only start that is a Python number
            return now
        before = self._factor(jnp.maximum(start, 0))
        some = before != 0  # a learning rate of zero stays zero
        return jnp.where(start < 0, now, jnp.where(some, now / jnp.where(some, before, 1), 1))


class Setter(Rated):
    """Sets the learning rate at every step, whatever the previous learning rate was."""

    def _factor_between(self, start: Any, t: Array) -> Array:
        return jnp.ones(jnp.shape(t), jnp.result_type(float))

    def _last_reset(self, t: Array) -> Array | None:
        return t

    def _advance(self, t: Array, rate: Array, *, replay_step_zero: bool) -> Array:
        return self(t)

    def _replayed(self, t: Array) -> Array:
        return self(t)
