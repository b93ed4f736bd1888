"""Values that the leaves of a step get from the rule's hooks for the whole step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import jax

__all__ = ["ByLeaf", "Shared", "at_leaf", "is_by_leaf", "named_tuple"]


class Shared:
    """Holds named values that all leaves share in a step; `at_step` and `measure` return an object of this class.

    Write `Shared(rate=..., decay=...)`. The call makes a NamedTuple, because every leaf gets the object and JAX
    flattens NamedTuples quickly.

    Args:
      **parts: The values by name. A `ByLeaf` gives each leaf its own value.
    """

    def __new__(cls, **parts: Any) -> Any:
        return _shared(tuple(parts))(**parts)


@cache
def _shared(fields: tuple[str, ...]) -> Any:
    return named_tuple("Shared", fields)


def named_tuple(name: str, fields: Iterable[str]) -> Any:
    """Makes a class of named tuples whose fields are known only when the program runs."""
    typed = [(field, Any) for field in fields]
    return NamedTuple(name, typed)


@jax.tree_util.register_pytree_node_class
class ByLeaf:
    """Holds a tree like the updates, as an entry of `Shared`, so each call of `update_leaf` gets its leaf's own value.

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
