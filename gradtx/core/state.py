"""States: a NamedTuple per method, `count` first, then the slots of its leaves, then what is kept once for the tree.

A field says by its annotation how it relates to the parameters, so that checks, sharding and the
accounting of memory are derived:

    Like      one array per parameter, shaped like it
    Reduced   per parameter an array smaller than it, or a list of them: a row's mean, a norm
    Once      one array for the whole tree: a number, or a random key
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, NamedTuple, get_type_hints

import jax.numpy as jnp
from jax import Array

__all__ = ["CountState", "EmptyState", "Like", "Once", "Reduced", "counted", "fields"]

Like = Annotated[Any, "like"]
"""A state field with one array per parameter, shaped like it."""

Reduced = Annotated[Any, "reduced"]
"""A state field with an array per parameter that is smaller than it, or a list of such arrays."""

Once = Annotated[Any, "once"]
"""A state field with one array for the whole tree."""


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class CountState(NamedTuple):
    """The state of a rule that only counts its steps, so that its hyperparameters may follow schedules."""

    count: Array


def counted(count: Array) -> Array:
    """The count after one more step; a full counter stays full."""
    return jnp.minimum(count, jnp.iinfo(jnp.int32).max - 1) + 1


class Fields(NamedTuple):
    """The fields of a state class after `count`: those of the leaves, which of them are `Like`, those kept once."""

    leaf: tuple[str, ...]
    like: frozenset[str]
    once: tuple[str, ...]


@cache
def fields(state: Any) -> Fields:
    """The fields of a state class by how they relate to the parameters.

    Raises:
      TypeError: the class does not begin with `count`, or a field of a leaf follows one kept once.
    """
    hints = get_type_hints(state, include_extras=True)
    first, *names = state._fields
    once = tuple(name for name in names if hints[name] is Once)
    if first != "count" or tuple(names[len(names) - len(once) :]) != once:
        raise TypeError(f"{state.__name__}: the fields must be count, then those of the leaves, then those kept Once.")
    return Fields(tuple(names[: len(names) - len(once)]), frozenset(n for n in names if hints[n] is Like), once)
