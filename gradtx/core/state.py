"""States: a NamedTuple per method, `count` first, then the slots of its leaves."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from jax import Array

__all__ = ["CountState", "EmptyState", "Like"]

Like = Annotated[Any, "like"]
"""A state field with one array per parameter, shaped like it."""


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class CountState(NamedTuple):
    """The state of a rule that only counts its steps, so that its hyperparameters may follow schedules."""

    count: Array
