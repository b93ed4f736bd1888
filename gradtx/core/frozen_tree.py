"""A tree as a static field of a value."""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["FrozenTree"]


class FrozenTree:
    """A tree as a static field: hashable, compared by structure and leaves, and printed as the tree."""

    def __init__(self, tree: Any) -> None:
        self.tree = jax.tree.map(lambda x: x, tree)  # a copy: nobody can change it from outside

    def _identity(self) -> tuple[Any, ...]:
        leaves, treedef = jax.tree.flatten(self.tree)
        return treedef, tuple(leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenTree) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return repr(self.tree)
