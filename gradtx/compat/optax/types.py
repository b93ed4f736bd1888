"""optax's type aliases and protocols, and the base classes of its transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx.core.hyper import StatefulSchedule as StatefulSchedule
from gradtx.core.state import EmptyState, counted

__all__ = [
    "ConditionFn",
    "MaskOrFn",
    "OptState",
    "Params",
    "ScalarOrSchedule",
    "Schedule",
    "ShouldSkipUpdateFunction",
    "StatefulSchedule",
    "TransformInitFn",
    "TransformUpdateExtraArgsFn",
    "TransformUpdateFn",
    "Updates",
    "WrappedSchedule",
    "init_empty_state",
]

Params = Any
"""A tree of arrays."""

Updates = Any
"""A tree of arrays like the parameters."""

OptState = Any
"""A state, as `init` returns it."""

Schedule = Callable[[ArrayLike], ArrayLike]
"""A function from the step count to a number."""

ScalarOrSchedule = float | ArrayLike | Schedule
"""A hyperparameter: a number, an array or a schedule."""

MaskOrFn = Any | Callable[[Params], Any] | None
"""A tree of booleans, or a function of the parameters that returns one."""


class TransformInitFn(Protocol):
    """The `init` of a transformation."""

    def __call__(self, params: Params) -> OptState:
        """Returns the state before the first step."""
        ...


class TransformUpdateFn(Protocol):
    """The `update` of a transformation."""

    def __call__(self, updates: Updates, state: OptState, params: Params | None = None) -> tuple[Updates, OptState]:
        """Returns the transformed updates and the next state."""
        ...


class TransformUpdateExtraArgsFn(Protocol):
    """The `update` of a transformation that takes any extra argument."""

    def __call__(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        """Returns the transformed updates and the next state."""
        ...


class ConditionFn(Protocol):
    """The function that `conditionally_transform` calls at each step."""

    def __call__(self, step: Any, **extra_args: Any) -> Any:
        """Returns whether to apply the inner transformation."""
        ...


class ShouldSkipUpdateFunction(Protocol):
    """The function that `MultiSteps` calls for each micro-batch."""

    def __call__(self, updates: Updates, gradient_step: Any, params: Params | None) -> tuple[Any, Any]:
        """Returns whether to skip the micro-batch, and arrays to keep in the state."""
        ...


class WrappedSchedule(StatefulSchedule):
    """Makes a `StatefulSchedule` of a plain schedule; its state is the step count.

    Args:
      schedule_fn: A schedule, or a function of the step count.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> schedule = optax.WrappedSchedule(lambda count: 0.5**count)
      >>> float(schedule(schedule.update(schedule.init())))
      0.5
    """

    def __init__(self, schedule_fn: Schedule) -> None:
        self.schedule_fn = schedule_fn

    def init(self) -> Any:
        """Returns the count 0."""
        return jnp.zeros((), jnp.int32)

    def update(self, state: Any, **extra_args: Any) -> Any:
        """Returns the count after one more step."""
        del extra_args
        return counted(state)

    def __call__(self, state: Any, **extra_args: Any) -> ArrayLike:
        del extra_args
        return self.schedule_fn(state)


def init_empty_state(params: Params) -> EmptyState:
    """Returns the state of a transformation without memory.

    Args:
      params: The parameters; not used.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.init_empty_state({"w": 1.0})
      EmptyState()
    """
    del params
    return EmptyState()
