"""What the leaves of a step get from the rule's hooks for the whole step."""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["ByLeaf", "Shared", "at_leaf"]


@jax.tree_util.register_pytree_with_keys_class
class Shared:
    """Numbers by name, as in `Shared(rate=..., decay=...)`: what `at_step` and `measure` return of several parts."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __repr__(self) -> str:
        return f"Shared({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def tree_flatten_with_keys(self) -> tuple[Any, tuple[str, ...]]:
        keys = tuple(self.__dict__)
        return tuple((jax.tree_util.GetAttrKey(key), self.__dict__[key]) for key in keys), keys

    @classmethod
    def tree_unflatten(cls, keys: tuple[str, ...], parts: Any) -> Shared:
        return cls(**dict(zip(keys, parts, strict=True)))


@jax.tree_util.register_pytree_node_class
class ByLeaf:
    """A tree like the updates as a part of `Shared`: `update_leaf` gets the leaf's own."""

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


def at_leaf(shared: Any, n: int) -> list[Any]:
    """What each of `n` leaves gets of what is shared."""
    parts, treedef = jax.tree.flatten(shared, is_leaf=_is_by_leaf)
    if not any(map(_is_by_leaf, parts)):
        return [shared] * n
    return [treedef.unflatten([x.leaves[i] if _is_by_leaf(x) else x for x in parts]) for i in range(n)]


def _is_by_leaf(x: Any) -> bool:
    return isinstance(x, ByLeaf)
