"""Values that a rule computes once per step and passes to the update of every leaf."""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

import jax

__all__ = ["ByLeaf", "Shared", "at_leaf", "is_by_leaf"]


class Shared:
    """Holds named values that are computed once per step and passed to the update of every leaf.

    A rule's `at_step` or `measure` returns it: write `Shared(rate=..., decay=...)`, and read `shared.rate` in
    `update_leaf`. The object is a NamedTuple, because JAX flattens NamedTuples quickly and every leaf gets one.

    Args:
      **parts: The values by name. To give each leaf its own value, pass a `ByLeaf`.
    """

    def __new__(cls, **parts: Any) -> Any:
        return _named(tuple(parts))(**parts)


@cache
def _named(names: tuple[str, ...]) -> Any:
    return namedtuple("Shared", names)


@jax.tree_util.register_pytree_node_class
class ByLeaf:
    """Marks a value of `Shared` that differs from leaf to leaf; `update_leaf` gets the value of its own leaf.

    Args:
      tree: A tree with one array for each leaf of the updates.
    """

    def __init__(self, tree: Any) -> None:
        self.leaves = tuple(jax.tree.leaves(tree))

    def tree_flatten(self) -> tuple[Any, None]:
        return self.leaves, None

    @classmethod
    def tree_unflatten(cls, aux: None, leaves: Any) -> ByLeaf:
        del aux
        by_leaf = object.__new__(cls)
        by_leaf.leaves = tuple(leaves)
        return by_leaf


def at_leaf(shared: Any, i: int) -> Any:
    """Returns the shared values for leaf `i`."""
    return jax.tree.map(lambda x: x.leaves[i] if isinstance(x, ByLeaf) else x, shared, is_leaf=_is_by_leaf)


def is_by_leaf(shared: Any) -> bool:
    """Whether leaves get values of their own."""
    return any(map(_is_by_leaf, jax.tree.leaves(shared, is_leaf=_is_by_leaf)))


def _is_by_leaf(x: Any) -> bool:
    return isinstance(x, ByLeaf)
