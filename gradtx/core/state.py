"""Classes of states: what they declare, and the parts of a state that a rule gets."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jax import Array, lax

from gradtx.core.shared import named_tuple
from gradtx.core.slots import PerLeaf, Slot, average_weights, child_state, counter, factor, per_matrix, per_tree
from gradtx.types import State

__all__ = [
    "CountState",
    "EmptyState",
    "child_slots",
    "counted",
    "declared",
    "is_of_matrices",
    "leaf_slots",
    "stack_slots",
    "tree_slots",
]


class EmptyState(NamedTuple):
    """The state of a transformation that keeps nothing between steps."""


class CountState(NamedTuple):
    """The state of a rule that only counts its steps, so that its hyperparameters can be schedules."""

    count: Array = counter()


_MOST = np.iinfo(np.int32).max


def counted(count: Array) -> Array:
    """Returns the step count after one more step; a count at the largest int32 stays there.

    Args:
      count: The step count, an int32.
    """
    one = count.dtype.type(1)
    return lax.add(lax.min(count, count.dtype.type(_MOST) - one), one)


@cache
def declared(state: Any) -> dict[str, Any]:
    """Returns the slots of a state class by field.

    Raises:
      TypeError: a field has no slot.
    """
    slots = dict(state._field_defaults)
    for name in state._fields:
        if not isinstance(slots.get(name), Slot):
            raise TypeError(
                f"{state.__name__}.{name}: a field of a state is declared by a slot. Write one beside its name, such "
                f"as {name}: Array = per_param() or per_tree()."
            )
    state.__new__.__defaults__ = _defaults(slots)  # a slot is a declaration, not the value of an argument left out
    return slots


def _defaults(slots: dict[str, Slot]) -> tuple[Any, ...]:
    """Returns defaults for the last fields of a state that is made by hand: no steps, and no weights of averages."""
    found: list[Any] = []
    for name, slot in reversed(slots.items()):
        if name != "count" and not isinstance(slot, average_weights):
            break
        found.append({} if isinstance(slot, average_weights) else np.zeros((), np.int32))
    return tuple(reversed(found))


@cache
def child_slots(state: Any) -> dict[str, child_state]:
    """Returns the fields that hold states of inner transformations."""
    return {name: slot for name, slot in declared(state).items() if isinstance(slot, child_state)}


def _named(state: State, suffix: str, kind: type[Slot]) -> Any:
    names = [name for name, slot in declared(state).items() if isinstance(slot, kind) and name != "count"]
    return named_tuple(state.__name__ + suffix, names)


def is_of_matrices(slot: Slot) -> bool:
    """Whether the slot belongs to the matrices that parameters are seen as, so that `on_stack` gets it."""
    return isinstance(slot, per_matrix) or (isinstance(slot, factor) and slot.side != "all")


@cache
def stack_slots(state: Any) -> Any:
    """Returns the class of what `on_stack` gets as `slots`: slots of matrices, such as factors of their rows."""
    return named_tuple(state.__name__ + "Factors", [n for n, slot in declared(state).items() if is_of_matrices(slot)])


@cache
def leaf_slots(state: Any) -> Any:
    """Returns the class of what a rule gets as `slots`: the fields with something per parameter."""
    return _named(state, "Slots", PerLeaf)


@cache
def tree_slots(state: Any) -> Any:
    """Returns the class of what a rule gets as `numbers`: the fields per tree, except `count`."""
    return _named(state, "Numbers", per_tree)
