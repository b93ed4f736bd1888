"""Hyperparameters: numbers, arrays or schedules, with limits that are declared beside the default.

    class scale_by_yogi(Elementwise):
        b1: Hyper = hyper(default=0.9, ge=0, lt=1)

A concrete number outside the limits raises at construction. Arrays and tracers pass, because their contents are not
read. A rule only sees numbers: the engine calls schedules with the step count first.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.value import Value, field, function, static
from gradtx.frozen import Frozen

__all__ = [
    "LARGEST_RATE",
    "Hyper",
    "HyperArg",
    "Limits",
    "Number",
    "Resolvable",
    "Schedule",
    "StatefulSchedule",
    "function_schedule",
    "hyper",
    "largest_factor",
    "number",
    "of_step",
    "resolve",
    "with_extra",
]


class Schedule(Value):
    """Base class of schedules: values that map the step count to a number, by `schedule(count)`.

    The first step has count 0. A schedule can replace a number in any hyperparameter of a transformation. It is
    pure and works under `jit`, `vmap` (over counts and over its own numbers) and `grad`. Subclasses define
    `__call__`.
    """

    def __call__(self, count: ArrayLike) -> Array:
        """Returns the value at step `count` (an integer or an array of integers, 0 for the first step), in float32
        or wider.
        """
        raise NotImplementedError


def of_step(fn: Callable[..., Any], *steps: Any, **extra: Any) -> Any:
    """Calls `fn(*steps, **extra)`, a user's function that gets the step count as a traced array."""
    try:
        return fn(*steps, **extra)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"{_name(fn)}: a function of the step count cannot use the count as a Python number, as if, while, int, "
            "float, range, and functions of math and NumPy do: a step is compiled once for all counts. "
            "Write it with jax.numpy: jnp.where(count < 10, a, b) instead of if, jnp.cos instead of math.cos. To run "
            "schedules one after the other, use gx.join_schedules."
        ) from error


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", repr(fn))


class function_schedule(Schedule):
    """Makes a schedule from a plain function of the step count.

    You rarely need it: a plain function given as a hyperparameter is wrapped automatically.

    The function is called with a traced count while a step is compiled. So write it with `jax.numpy`, as in
    `lambda count: jnp.where(count < 10, 0.1, 0.01)`; a Python `if` or `math.cos` raises a TypeError.

    Args:
      fn: A function from the step count (0 for the first step) to a number. It is static: another function
        retraces, and two such schedules are equal only if they hold the same function.
    """

    fn: Any = static(check=function)

    def __call__(self, count: ArrayLike) -> Array:
        value = of_step(self.fn, count)
        if not (leaf.is_number(value) or isinstance(value, (jax.Array, np.ndarray))):
            raise TypeError(
                f"{_name(self.fn)}: a schedule must return a number, got {checks.shown(value)} of type "
                f"{type(value).__name__}."
            )
        return value  # pyright: ignore[reportReturnType]  (a Python number is one, too)


class StatefulSchedule:
    """Base class of hyperparameters with a state of their own, such as one that follows the loss.

    Subclasses define three methods: `init()` returns the first state, `schedule(state, **extra)` the number of a
    step, and `update(state, **extra)` the state of the next step. The methods get the extra arguments of the
    transformation's `update` that they name, or all of them with `**`. At `init` there are no extra arguments, so
    each needs a default in `__call__`. `gx.inject_hyperparams` keeps the states.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> class halved_by_bad_news(gx.rules.StatefulSchedule):
    ...     def init(self):
    ...         return {"number": jnp.asarray(0.1), "value": jnp.asarray(jnp.inf)}
    ...
    ...     def __call__(self, state, value=None):
    ...         return state["number"]
    ...
    ...     def update(self, state, value):
    ...         worse = value > state["value"]
    ...         return {"number": jnp.where(worse, 0.5, 1.0) * state["number"], "value": value}
    >>> tx = gx.inject_hyperparams(gx.sgd)(learning_rate=halved_by_bad_news())
    >>> state = tx.init(jnp.zeros(1))
    >>> for value in (1.0, 2.0, 0.5):
    ...     updates, state = tx.update(jnp.ones(1), state, value=value)
    >>> print(updates)
    [-0.05]
    """

    def init(self) -> Any:
        """Returns the state before the first step, a tree of arrays."""
        raise NotImplementedError

    def update(self, state: Any, **extra: Any) -> Any:
        """Returns the state of the next step, a tree like `state`."""
        raise NotImplementedError

    def __call__(self, state: Any, **extra: Any) -> Any:
        """Returns the number of this step."""
        raise NotImplementedError

    def reads(self, name: str) -> bool:
        """Whether it takes an extra argument of this name."""
        return any(_takes(method, name) for method in (self.__call__, self.update))


def _takes(fn: Callable[..., Any], name: str) -> bool:
    parameters = list(inspect.signature(fn).parameters.values())[1:]
    return any(p.name == name or (p.kind is p.VAR_KEYWORD and name != "grad_fn") for p in parameters)


def with_extra(fn: Callable[..., Any], state: Any, extra: dict[str, Any]) -> Any:
    """Calls `fn(state, ...)` with the extra arguments that it takes."""
    return fn(state, **{name: x for name, x in extra.items() if _takes(fn, name)})


HyperArg = ArrayLike | Schedule | Callable[[Any], Any]
"""The type of a hyperparameter as an argument of functions that build transformations."""

if TYPE_CHECKING:

    class Hyper:
        """A number, an array or a schedule when given; a number or an array when a rule reads it."""

        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: HyperArg) -> None: ...

    class Number:
        """A number or an array; None where it is optional."""

        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: ArrayLike | None) -> None: ...

else:
    Hyper = Number = Any


class Limits(Frozen):
    """The interval in which a number must lie. Infinity is excluded unless `infinite` is True."""

    ge: float = -math.inf
    gt: float = -math.inf
    le: float = math.inf
    lt: float = math.inf
    infinite: bool = False

    def __contains__(self, x: float) -> bool:
        if abs(x) > sys.float_info.max and not self.infinite:
            return False
        above = x >= self.ge and (x > self.gt or self.gt == -math.inf)
        return above and x <= self.le and (x < self.lt or self.lt == math.inf)

    def __str__(self) -> str:
        left = f"({self.gt:g}" if self.gt >= self.ge else f"[{self.ge:g}"
        right = f"{self.lt:g})" if self.lt <= self.le else f"{self.le:g}]"
        if self.infinite and right == "inf)":
            right = "inf]"
        return f"{left}, {right}"

    def check(self, who: str, name: str, value: Any, *, schedules: bool = True, optional: bool = False) -> Any:
        """Returns `value` as it is stored; raises if it is not a number, array or schedule, or is out of range."""
        if isinstance(value, Schedule) and schedules:
            return value
        if optional and value is None:
            return None
        if isinstance(value, (np.floating, np.integer)):
            value = value.item()
        if leaf.is_number(value):
            if value not in self:
                raise ValueError(f"{who}: {name} must be in {self}, got {value!r}. {_ADVICE[schedules]}")
            return float(value) if abs(value) >= _LONG else value
        if isinstance(value, (jax.Array, np.ndarray)) and getattr(value.dtype, "kind", "") in tuple(
            "fiuV"
        ):  # V: bfloat16 and similar dtypes
            return jnp.asarray(value) if isinstance(value, np.ndarray) else value
        if schedules and callable(value) and not isinstance(value, type):
            return function_schedule(value)
        kinds = "a number, an array or a schedule" if schedules else "a number or an array"
        raise TypeError(
            f"{who}: {name} must be {kinds} in {self}, got {checks.shown(value)} of type {type(value).__name__}. "
            f"{_ADVICE[schedules]}"
        )


_LONG = 2**30
"""Integers from here on are kept as floats, so that sums of two kept integers fit into JAX's 32 bits."""

_ADVICE = {
    True: "Give a number in that range, a jax array, or a schedule (a function of the step count).",
    False: "Give a number in that range, or a jax array.",
}


def hyper(default: Any = dataclasses.MISSING, *, kw_only: bool = False, **limits: Any) -> Any:
    """Declares a hyperparameter: a field that takes a number within limits, an array, or a schedule.

    The contents of an array and the results of a schedule are not checked, because they may not be known yet.

    Args:
      default: The default of the field; none by default, so that the argument is required.
      kw_only: Whether the constructor takes the field by keyword only.
      **limits: `ge`, `gt`, `le` and `lt` for the ends of the interval, and `infinite=True` to allow infinity.
    """
    return field(Limits(**limits).check, dynamic=True, default=default, kw_only=kw_only)


def number(default: Any = dataclasses.MISSING, *, optional: bool = False, **limits: Any) -> Any:
    """Declares a field of a schedule that takes a number within limits or an array, but no schedule.

    Args:
      default: The default of the field; none by default, so that the argument is required.
      optional: Whether None is allowed.
      **limits: `ge`, `gt`, `le` and `lt` for the ends of the interval, and `infinite=True` to allow infinity.
    """
    check = partial(Limits(**limits).check, schedules=False, optional=optional)
    return field(check, dynamic=True, default=default)


LARGEST_RATE = 1e15
"""Assumed upper bound on a learning rate or another factor whose number is only known at the step."""


def largest_factor(value: Any) -> float:
    """Returns the absolute value of a factor, or `LARGEST_RATE` if it is not a number yet."""
    return abs(value) if leaf.is_number(value) else LARGEST_RATE


class Resolvable(Value):
    """A value that contains hyperparameters, as a field of a transformation."""

    @property
    def constant(self) -> bool:
        """Whether all of them are Python numbers, known when a rule is compiled."""
        raise NotImplementedError

    def at(self, count: Any) -> Any:
        """Returns the value with its schedules called at a step."""
        raise NotImplementedError


def resolve(owner: Any, name: str, count: Any) -> Any:
    """Returns a hyperparameter as a rule sees it at a step: a Python number, or a scalar array in float32 or wider.

    Args:
      owner: The transformation that has the hyperparameter.
      name: The name of its field.
      count: The step count with which a schedule is called.
    """
    value = getattr(owner, name)
    if isinstance(value, Schedule):
        value = value(count)
    if isinstance(value, Resolvable):
        return value.at(count)
    if value is None or isinstance(value, Value) or leaf.is_number(value):
        return value
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"{type(owner).__name__}: {name} has shape {value.shape}; a hyperparameter is one number. "
            "Use jax.vmap over the transformation to run several values."
        )
    return value.astype(leaf.accumulator_dtype(jnp.promote_types(value.dtype, jnp.float16)))
