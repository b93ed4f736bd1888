"""Cells: the places of two states that are matched, each with its old value and the value that it will get.

A conversion walks through both states once, at the same time, and records which cells correspond. Only then does it
write values into the new state. So both directions use the same walk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradtx import checks
from gradtx.compat.arrays import fitted

__all__ = ["ADVICE", "Cell", "Clock", "Notes", "cells_of", "fields_of", "flat", "keep", "number", "values_of"]

ADVICE = "Give the state, the transformation and the parameters of one run."


class Cell:
    """The place of an array in a state."""

    __slots__ = ("is_set", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.is_set = value, False

    def put(self, where: str, x: Any) -> None:
        """Replaces the value with `x`, in the shape and dtype of the old value."""
        self.value, self.is_set = fitted(where, x, self.value, ADVICE), True

    def keep(self) -> None:
        """Leaves the value unchanged."""
        self.is_set = True


def cells_of(state: Any) -> Any:
    """Returns the state with a cell in place of each array."""
    return jax.tree.map(Cell, state)


def values_of(tree: Any) -> Any:
    """Returns the tree with the values of its cells."""
    return jax.tree.map(lambda cell: cell.value, tree)


def number(cell: Cell) -> int:
    """Returns the value of a cell that holds a count, as an int."""
    return int(np.asarray(cell.value))


def keep(tree: Any) -> None:
    """Leaves the cells of a tree unchanged."""
    for cell in jax.tree.leaves(tree):
        cell.keep()


def flat(tree: Any) -> list[tuple[str, Cell]]:
    """Returns the cells of a tree, each with its path."""
    return [(checks.slashed(path), cell) for path, cell in jax.tree_util.tree_leaves_with_path(tree)]


def fields_of(x: Any) -> dict[str, Any]:
    """Returns the fields of a NamedTuple by name, or the items of a dict."""
    if isinstance(x, dict):
        return {str(name): value for name, value in x.items()}
    return {name: getattr(x, name) for name in getattr(x, "_fields", ())}


class Clock:
    """The number of steps that the transformations of a chain have taken together.

    In gradtx every transformation of a chain counts its steps, in optax only some of them do. If a transformation has
    no count on the other side, it gets the count on which all other transformations agree. If no transformation has a
    count, it gets the count that the user passed, or else the count that the surrounding state implies.
    """

    def __init__(self, link: str, told: int | None, implied: Callable[[], int | None]) -> None:
        self.link, self.told, self.implied = link, told, implied
        self.read: list[int] = []
        self.unset: list[tuple[str, Cell, int]] = []
        """The cells to set to the count, each with an offset to add."""

    def count(self, who: str) -> int:
        """Returns the number of steps taken."""
        found = set(self.read)
        if len(found) == 1:
            (only,) = found
            if self.told not in (None, only):
                raise ValueError(
                    f"{who}: count={self.told}, but the state of {self.link} has counted {only} steps. Leave count out."
                )
            return only
        count = self.implied() if self.told is None else self.told
        if count is None:
            counts = f"has several counts, {', '.join(map(str, sorted(found)))}" if found else "has no step count"
            raise ValueError(
                f"{who}: the state of {self.link} {counts}, and every link of the other state counts the steps. Say "
                "how many were taken, as in count=1000."
            )
        return count


class Notes:
    """The record of a walk through both states."""

    def __init__(self, who: str, into_ours: bool) -> None:
        self.who, self.into_ours = who, into_ours
        self.pairs: list[tuple[str, Cell, Cell, Callable[[Any], Any]]] = []
        self.later: list[Callable[[], None]] = []
        self.clocks: list[Clock] = []

    def clock(self, link: str, told: int | None = None, implied: Callable[[], int | None] = lambda: None) -> Clock:
        """Makes and registers a new clock."""
        self.clocks.append(Clock(link, told, implied))
        return self.clocks[-1]

    def pair(self, where: str, ours: Cell, theirs: Cell, change: Callable[[Any], Any] = lambda x: x) -> None:
        """Records two cells that hold the same value; `change` converts the value from one library to the other."""
        self.pairs.append((where, ours, theirs, change))

    def error(self, text: str) -> ValueError:
        """Returns an error whose message starts with the name of the public function."""
        return ValueError(f"{self.who}: {text}")

    def write(self) -> None:
        """Writes all recorded values into the new state."""
        for where, ours, theirs, change in self.pairs:
            source, target = (theirs, ours) if self.into_ours else (ours, theirs)
            target.put(f"{self.who}: {where}", change(source.value))
        for clock in self.clocks:
            if clock.unset:
                count = clock.count(self.who)
                for where, cell, offset in clock.unset:
                    cell.put(f"{self.who}: {where}", np.asarray(count + offset))
        for f in self.later:
            f()
