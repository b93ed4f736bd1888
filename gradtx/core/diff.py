"""What differs between two transformations: `gradtx.diff`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx import checks
from gradtx.core.branch import is_traced
from gradtx.core.chain import chain
from gradtx.core.links import full_name
from gradtx.core.table import Shown, Table
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import Value, entries, show
from gradtx.types import Transformation

__all__ = ["MISSING", "Change", "Differences", "diff"]


class _Missing:
    def __repr__(self) -> str:
        return "-"


MISSING: Any = _Missing()
"""In place of what one of the two transformations does not have."""


class Change(NamedTuple):
    """One difference: what both have under a name, or `MISSING` where one has nothing."""

    name: str
    a: Any
    b: Any


class Differences(Shown):
    """The differences of two transformations: `changes`, which print as a table. False if there are none."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = tuple(changes)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def _parts_shown(self) -> Sequence[Table | str]:
        if not self.changes:
            return ("No differences.",)
        rows = [(name, _line(a), _line(b)) for name, a, b in self.changes]
        return (Table(("name", "a", "b"), rows),)


def _line(x: Any) -> str:
    return checks.cut(" ".join(show(x).split()), 70)


def diff(tx_a: Transformation, tx_b: Transformation) -> Differences:
    """Compares two transformations: which links and which hyperparameters differ.

    Use it to see what separates two runs, or an optimizer that works from one that does not. Links of chains are
    matched by their kind and order. So a link that was added in the middle is one difference.

    Args:
      tx_a: A transformation.
      tx_b: Another one.

    Returns:
      The differences, which print as a table; false if there are none. Each of its `changes` has `name` (as in
      `gx.hyperparameters`), and `a` and `b`, what each has there: a number, a schedule, another argument or a whole
      link. Where one of them has nothing there, it is `MISSING` and prints as `-`. Arrays are equal if their dtypes,
      shapes and entries are.

    >>> import gradtx as gx
    >>> before = gx.adam(1e-3)
    >>> after = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(gx.linear_schedule(1e-3, 0.0, 100), b2=0.95))
    >>> print(gx.diff(before, after))
    name                                  a      b
    clip_by_global_norm                   -      clip_by_global_norm(max_norm=1.0)
    scale_by_adam.b2                      0.999  0.95
    scale_by_learning_rate.learning_rate  0.001  linear_schedule(init_value=0.001, end_value=0.0, transition_steps=1...
    >>> bool(gx.diff(before, gx.adam(1e-3)))
    False

    Raises:
      TypeError: An argument is not a transformation.
    """
    return Differences(list(_changes("", as_transformation("diff", tx_a), as_transformation("diff", tx_b))))


def _changes(name: str, a: Any, b: Any) -> Iterator[Change]:
    if isinstance(a, GradientTransformation) and type(a) is type(b):
        name = full_name(a, name)
    if isinstance(a, chain) and isinstance(b, chain):
        yield from _of_chains(name, a, b)
    elif isinstance(a, Value) and type(a) is type(b):
        mine, other = entries(a), entries(b)
        for key in dict.fromkeys([*mine, *other]):
            yield from _changes(f"{name}.{key}", mine.get(key, MISSING), other.get(key, MISSING))
    elif not _equal(a, b):
        yield Change(name or "(the transformation itself)", a, b)


def _of_chains(name: str, a: chain, b: chain) -> Iterator[Change]:
    """Lists the differences of two chains; pairs their links by class, and ignores the class of the chains."""
    mine, other = list(a._parts().items()), list(b._parts().items())
    matched = difflib.SequenceMatcher(None, _kinds(mine), _kinds(other), autojunk=False)
    for tag, i, i_end, j, j_end in matched.get_opcodes():
        if tag == "equal":
            for (key, x), (_, y) in zip(mine[i:i_end], other[j:j_end], strict=True):
                yield from _changes(f"{name}.{key}".lstrip("."), x, y)
        else:
            yield from (Change(f"{name}.{key}".lstrip("."), x, MISSING) for key, x in mine[i:i_end])
            yield from (Change(f"{name}.{key}".lstrip("."), MISSING, y) for key, y in other[j:j_end])


def _kinds(links: Sequence[tuple[str, Any]]) -> list[type[Any]]:
    return [type(link) for _, link in links]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (jax.Array, np.ndarray)) and isinstance(b, (jax.Array, np.ndarray)):
        same = a is b or (a.shape == b.shape and a.dtype == b.dtype and not is_traced((a, b)))
        return same and (a is b or np.array_equal(a, b, equal_nan=True))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, (jax.Array, np.ndarray)) or isinstance(b, (jax.Array, np.ndarray)):
        return False
    return a is b or bool(a == b)
