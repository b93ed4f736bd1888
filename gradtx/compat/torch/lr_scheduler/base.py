"""What the schedulers have in common: their fields, and how each takes part in a composition.

PyTorch's schedulers change the optimizer's rate in place, so what several do to one rate depends on how each reads
it. There are three kinds:

    a factor    eta_t = eta_(t-1) * F(t) / F(t-1)
    a setter    eta_t = its own value, whatever the rate was
    the cosine  an affine map of eta_(t-1)
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
    """Steps as integers of JAX's default width."""
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        count = jnp.floor(count)
    return jnp.maximum(count.astype(jnp.result_type(int)), 0)


def whole(who: str, name: str, value: Any, *, ge: int = 1) -> Any:
    """The check of a number of steps: a whole number of at least `ge`, or an array."""
    value = Limits(ge=ge).check(who, name, value, schedules=False)
    if leaf.is_number(value) and not float(value).is_integer():
        raise ValueError(f"{who}: {name} must be a whole number of steps, got {value!r}. Round it.")
    return value


def length(*default: Any, optional: bool = False) -> Any:
    """A field that is a number of steps, or None if `optional`."""

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
    """The field `last_epoch`, which can only be -1."""
    return static(default=-1, check=_check_fresh)


def of_steps() -> Any:
    """A field that is a function of the step."""
    return static(check=function)


class Scheduler(Schedule):
    """A schedule that can take part in `SequentialLR` and `ChainedScheduler`."""

    def _rate(self) -> Any:
        """The base rate."""
        raise NotImplementedError

    def _passed(self, start: Any, t: Array) -> Array:
        """What the steps after `start` up to `t` multiply the rate with; step 0 belongs to them if `start` is -1."""
        raise NotImplementedError

    def _again(self) -> Any:
        """What step 0 multiplies the rate with if it is taken like any other step, over what it does at the start."""
        return 1.0

    def _set_at(self, t: Array) -> Array | None:
        """The last step up to `t` at which the rate became a value that does not depend on the one before.

        It is -1 before the first such step, and None if there is none.
        """
        return None

    def _stepped(self, t: Array, rate: Array, *, again: bool) -> Array:
        """The rate at step `t` if it was `rate` before that step."""
        rate = rate * self._passed(t - 1, t)
        return jnp.where(t == 0, rate * self._again(), rate) if again else rate

    def _replayed(self, t: Array) -> Array:
        """The value at `t` if step 0 is taken like any other step."""
        return self(t) * self._again()


class Rated(Scheduler):
    """A scheduler with a base rate of its own."""

    lr: Number = number(ge=0)

    def _rate(self) -> Any:
        return self.lr


class Factor(Rated):
    """eta_t = lr * F(t)."""

    def _factor(self, t: Array) -> Array:
        raise NotImplementedError

    def __call__(self, count: ArrayLike) -> Array:
        return self.lr * self._factor(counts(count))

    def _passed(self, start: Any, t: Array) -> Array:
        now = self._factor(t)
        if isinstance(start, int):
            return now
        before = self._factor(jnp.maximum(start, 0))
        some = before != 0  # a rate that has come to zero stays as it is
        return jnp.where(start < 0, now, jnp.where(some, now / jnp.where(some, before, 1), 1))


class Setter(Rated):
    """A scheduler that sets the rate at every step."""

    def _passed(self, start: Any, t: Array) -> Array:
        return jnp.ones(jnp.shape(t), jnp.result_type(float))

    def _set_at(self, t: Array) -> Array | None:
        return t

    def _stepped(self, t: Array, rate: Array, *, again: bool) -> Array:
        return self(t)

    def _replayed(self, t: Array) -> Array:
        return self(t)
