"""Matches the fields of two states: by name, by a table of different names, and by rules for derived fields.

The tables here and in `convert_special` list all differences between the states of optax and gradtx. A field in no
table must have the same name in both libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradtx import checks
from gradtx.compat.optax.convert_cells import ADVICE, Cell, Notes, flat, keep, number
from gradtx.compat.optax.convert_links import OurLink, TheirLink, own_fields
from gradtx.compat.optax.convert_special import KEPT, OURS, SPECIAL, THEIRS
from gradtx.core.slots import PerLeaf
from gradtx.core.state import declared

__all__ = ["CLASSES", "Match"]

CLASSES = {
    "ApplyEveryState": {"ApplyEvery"},
    "ConditionallyTransformState": {"ConditionallyTransformState", "ConditionallyMaskState"},
    "InjectHyperparamsState": {"InjectHyperparamsState", "InjectStatefulHyperparamsState"},
    "LinesearchState": {"ScaleByZoomLinesearchState", "ScaleByBacktrackingLinesearchState"},
    "ScaleByRStdDevState": {"ScaleByRStdDevState", "ScaleByRStdDevWithCountState"},
    "ScaleByRmsState": {"ScaleByRmsState", "ScaleByRmsWithCountState"},
    "ScaleByYogiState": {"ScaleByAdamState"},
    "WithHessianDiagState": {"HutchinsonState"},
}
"""Maps the names of gradtx's state classes to optax's names, if they differ."""

RENAMED = {("WithHessianDiagState", "rng_key"): "key"}
"""Maps fields of gradtx to the name of the field in optax."""

OFFSETS = {"step_count": 1}
"""Maps optax's state classes to the difference between their count and the number of steps taken."""


class Match:
    """Matches the state of a transformation in gradtx with the corresponding state in optax."""

    def __init__(self, ours: OurLink, theirs: TheirLink, slow: Any, notes: Notes) -> None:
        self.link, self.their_link, self.slow, self.notes = ours, theirs, slow, notes
        self.kind = ours.tx.State.__name__
        self.ours = own_fields(ours.tx, ours.state)
        self.theirs = dict(theirs.fields)
        self.changes: dict[str, Callable[[Any], Any]] = {}
        """Maps the names of fields that the two libraries scale differently to functions that convert their values."""

    def count(self) -> int:
        """Returns the number of steps taken."""
        return self.link.clock.count(self.notes.who)

    def where(self, field: str, path: str = "") -> str:
        """Returns the name of a field (and a path in it) for an error message."""
        return f"{self.link.name}.{field}" + (f" of {path}" if path else "")

    def later(self, tree: Any, make: Callable[[], Any], where: str = "") -> None:
        """Schedules a tree of cells to be set to the result of `make` when the walk has ended."""

        def fill() -> None:
            cells, values = jax.tree.leaves(tree), jax.tree.leaves(make())
            for cell, value in zip(cells, values, strict=True):
                cell.put(f"{self.notes.who}: {where}", value)

        if jax.tree.leaves(tree):
            self.notes.later.append(fill)

    def run(self) -> None:
        """Records which fields correspond; raises if a field has no counterpart."""
        special = SPECIAL.get(self.kind)
        if special is not None:
            special(self)
        self._match_count()
        slots = declared(self.link.tx.State)
        for name, x in self.ours.items():
            theirs = self.theirs.pop(RENAMED.get((self.kind, name), name), None)
            if not jax.tree.leaves(x):
                keep(theirs)
            elif not jax.tree.leaves(theirs):
                self._without_partner(name, x, theirs is not None)
            elif isinstance(slots[name], PerLeaf):
                self.match_leaves(name, x, theirs)
            else:
                self.match_named(name, x, theirs)
        for name, x in self.theirs.items():
            self._their_own(name, x)

    # --- counts

    def _match_count(self) -> None:
        ours = self.ours.pop("count", None)
        name = next((name for name in ("count", "t", "step_count") if name in self.theirs), None)
        theirs, clock = self.theirs.pop(name, None) if name else None, self.link.clock
        offset = OFFSETS.get(name or "", 0)
        for cell, is_read, less in ((ours, not self.notes.into_ours, 0), (theirs, self.notes.into_ours, offset)):
            if cell is None:
                continue
            if is_read:
                clock.read.append(number(cell) - less)
            elif ours is None or theirs is None:
                clock.unset.append((self.where("count"), cell, less))
        if ours is not None and theirs is not None:
            source, target = (theirs, ours) if self.notes.into_ours else (ours, theirs)
            change = -offset if self.notes.into_ours else offset
            self.later(target, lambda: np.asarray(number(source) + change), self.where("count"))

    # --- one field

    def match_leaves(self, name: str, ours: Any, theirs: Any) -> None:
        """Matches a field that has an array for every parameter."""
        seen = self.link.seen
        items = jax.tree.structure(seen.ours).flatten_up_to(ours)
        others = self._their_items(name, theirs, items)
        for path, item, other in zip(checks.paths(seen.ours), items, others, strict=True):
            where = self.where(name, path)
            if item is None:
                if any(np.size(cell.value) > 1 for cell in jax.tree.leaves(other)):
                    raise self.notes.error(
                        f"{where} has {_shown(other)} in the optax state, and nothing in gradtx's. {ADVICE}"
                    )
                keep(other)
                continue
            mine, its = jax.tree.leaves(item), jax.tree.leaves(other)
            if len(mine) != len(its):
                raise self.notes.error(f"{where} is {_shown(item)} in gradtx, and {_shown(other)} in optax. {ADVICE}")
            for a, b in zip(mine, its, strict=True):
                self.notes.pair(where, a, b, self.changes.get(name, lambda x: x))

    def _their_items(self, name: str, theirs: Any, items: list[Any]) -> list[Any]:
        """Returns the array of optax's field for each of gradtx's leaves."""
        seen = self.link.seen
        treedef = jax.tree.structure(seen.theirs)
        try:
            found = treedef.flatten_up_to(theirs)
        except (ValueError, TypeError):  # containers of other types, as a checkpoint restores them
            found = jax.tree.leaves(theirs)
        if len(found) == treedef.num_leaves:
            return [found[i] for i in seen.order]
        if len(found) == len(items):  # only the leaves of a group
            rank = {place: i for i, place in enumerate(sorted(seen.order))}
            return [found[rank[i]] for i in seen.order]
        raise self.notes.error(
            f"{self.where(name)} has {len(found)} arrays in the optax state, but there are {len(items)} parameters. "
            f"{ADVICE}"
        )

    def match_named(self, name: str, ours: Any, theirs: Any) -> None:
        """Matches a field that has a single array, or several arrays by name."""
        if isinstance(ours, Cell) and isinstance(theirs, Cell):
            self.notes.pair(self.where(name), ours, theirs)
            return
        mine = dict(flat(ours))
        for key, cell in flat(theirs):
            if key not in mine:
                raise self.notes.error(
                    f"{self.where(name)}: the optax state has {key}, and gradtx's has none. {ADVICE}"
                )
            self.notes.pair(self.where(f"{name}/{key}"), mine.pop(key), cell)
        if mine:
            raise self.notes.error(
                f"{self.where(name)}: the optax state has no {', '.join(mine)}, which gradtx's has. {ADVICE}"
            )

    def _without_partner(self, name: str, x: Any, known: bool) -> None:
        derive = OURS.get((self.kind, name), OURS.get(("", name)))
        if derive is not None:
            if self.notes.into_ours:
                self.later(x, lambda: derive(self), self.where(name))
        elif not known:
            kind = self.their_link.kind or "restored"
            raise self.notes.error(
                f"{self.where(name)} has no partner: the {kind} state of optax has the fields "
                f"{', '.join(self.their_link.fields)}. {ADVICE}"
            )
        else:
            raise self.notes.error(f"{self.where(name)} is empty in the optax state. {ADVICE}")

    def _their_own(self, name: str, x: Any) -> None:
        if name in CHILDREN or not jax.tree.leaves(x):
            return
        if name in KEPT:
            keep(x)
        elif name in THEIRS:
            if not self.notes.into_ours:
                self.later(x, lambda: THEIRS[name](self), self.where(name))
            elif name.startswith("is_init") and bool(np.asarray(x.value)):
                self.link.clock.read.append(0)
        else:
            kind = self.their_link.kind or "restored"
            raise self.notes.error(
                f"{self.where(name)}: the {kind} state of optax has this field, and gradtx's has no place for it. "
                f"{ADVICE}"
            )


CHILDREN = {
    "inner_state",
    "inner_opt_state",
    "inner_states",
    "opt_state",
    "adv_state",
    "base_optimizer_state",
    "measure_states",
}
"""Fields of optax that hold inner states; they are matched as separate chains."""


def _shown(item: Any) -> str:
    cells = jax.tree.leaves(item)
    return ", ".join(checks.shown(cell.value) for cell in cells) or "nothing"
