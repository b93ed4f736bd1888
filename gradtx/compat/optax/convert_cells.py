"""The places of two states that are being matched: the value in each place, and the value that it will get.

Both states are walked through once, together. The walk records which places belong together. Only then are values
written, into the state that is being made. So both directions share one walk.
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
    """One array of a state."""

    __slots__ = ("is_set", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.is_set = value, False

    def put(self, where: str, x: Any) -> None:
        """Replaces the value by `x`, in the shape and dtype of the old value."""
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
    """Returns the value of a cell that counts something."""
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
    """The step count that the links of one chain share.

    gradtx counts the steps in every link, optax in some. A link without a count on the other side gets the count on
    which all others agree. If there is none, it gets the count that the user gave, or else the one that the state
    around it implies.
    """

    def __init__(self, link: str, told: int | None, implied: Callable[[], int | None]) -> None:
        self.link, self.told, self.implied = link, told, implied
        self.read: list[int] = []
        self.unset: list[tuple[str, Cell, int]] = []
        """The cells that get the count, each with an offset to add."""

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
        """Returns a new clock."""
        self.clocks.append(Clock(link, told, implied))
        return self.clocks[-1]

    def pair(self, where: str, ours: Cell, theirs: Cell, change: Callable[[Any], Any] = lambda x: x) -> None:
        """Records two places that hold the same value, up to `change`, which is applied to the value that is read."""
        self.pairs.append((where, ours, theirs, change))

    def error(self, text: str) -> ValueError:
        """Returns an error that names the public function."""
        return ValueError(f"{self.who}: {text}")

    def write(self) -> None:
        """Fills in the state that is being made."""
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
