"""Fields of a rule that hold something for each leaf, above all masks.

    mask: Any = applies_to()          the rule applies to the leaves that the mask selects, and leaves the others alone
    decay_mask: Any = selection()     `update_leaf` gets True or False as the keyword argument `decay_mask`
    depth_of: Any = per_leaf(...)     `update_leaf` gets the leaf's item as the keyword argument `depth_of`

A mask is None for all leaves, a tree of booleans with the structure of the parameters or a prefix of it, a selector
(`gradtx.select`), or any other function from the parameters to such a tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from gradtx import checks, select
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.prefix import spread
from gradtx.core.value import EACH, Value, field, per_leaf, static
from gradtx.types import Mask, Params

__all__ = [
    "applies_to",
    "check",
    "each",
    "in_group",
    "is_function",
    "leaf_fields",
    "lookup_by_path",
    "selected",
    "selection",
]

_APPLIES = "gradtx.applies"


class lookup_by_path(Value):
    """Makes a function from a tree: for each leaf of another tree it returns the item at the leaf's path.

    Use it for a mask or other tree-shaped argument of an optimizer inside a group (`partition`, `masked`): the
    group sees only a dict from path to leaf, and this function finds the items of the whole tree there. If there is
    no item at the path itself, it takes the nearest one above. Leaves without an item get None.

    Args:
      tree: A tree of items, with the structure of the parameters or of the upper part of it.

    Returns:
      A function from a tree of parameters to a tree of items.

    >>> import gradtx as gx
    >>> gx.lookup_by_path({"dense": True, "norm": False})({"dense": {"w": 1.0, "b": 2.0}})
    {'dense': {'b': True, 'w': True}}
    """

    table: Any = static()

    def __init__(self, tree: Any) -> None:
        if isinstance(tree, FrozenTree):
            table = tree
        else:
            items = jax.tree.leaves(tree, is_leaf=_is_item)
            table = FrozenTree(dict(zip(checks.paths(tree, _is_item), items, strict=True)))
        object.__setattr__(self, "table", table)

    def __call__(self, params: Params) -> Any:
        return jax.tree.unflatten(jax.tree.structure(params), [self._item(path) for path in checks.paths(params)])

    def _item(self, path: str) -> Any:
        table = self.table.tree
        while path not in table and path:
            path = path.rpartition("/")[0]
        return table.get(path)

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, self.table.tree


def _is_item(x: Any) -> bool:
    """Whether `x` is an item: None and named tuples such as `WeightDimensionNumbers` are items, not containers."""
    return x is None or (isinstance(x, tuple) and hasattr(x, "_fields"))


def is_function(x: Any) -> bool:
    """Whether `x` is a function of the parameters rather than a tree like them (a module can be called, too)."""
    return callable(x) and (isinstance(x, Value) or jax.tree_util.all_leaves([x]))


def check(who: str, name: str, value: Any) -> Any:
    """Returns a mask as it is stored; raises a TypeError if it is neither a function nor a tree of booleans."""
    if value is None or isinstance(value, FrozenTree) or is_function(value):
        return value
    if isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a selector, not the text {value!r}. Write gx.select.path({value!r}).")
    for path, x in jax.tree_util.tree_leaves_with_path(value):
        if not isinstance(x, (bool, np.bool_)):
            raise TypeError(
                f"{who}: {name} must be a selector, a function of the parameters, or a tree of True and False; "
                f"at {checks.keystr(path)} it is {checks.shown(x)}."
            )
    return FrozenTree(value)


def in_group(mask: Mask) -> Any:
    """Converts the mask of a whole tree to one for a group: trees are looked up by path, selectors may match
    nothing.
    """
    if isinstance(mask, select.Selector):
        return select.maybe(mask)
    return mask if mask is None or is_function(mask) else lookup_by_path(mask)


def selected(who: str, mask: Mask, params: Params) -> list[bool] | None:
    """Returns for each leaf of `params` whether the mask selects the leaf; None if the mask is None."""
    if mask is None:
        return None
    if not isinstance(mask, FrozenTree):
        mask = FrozenTree(mask(params))
        check(who, "what mask(params) returned", mask.tree)
    return list(map(bool, spread(who, "mask", mask.tree, "params", params)))


def each(who: str, mask: Mask, params: Params) -> list[bool]:
    """Returns for each leaf of `params` whether the mask selects the leaf; without a mask, True for all."""
    found = selected(who, mask, params)
    return [True] * len(jax.tree.leaves(params)) if found is None else found


def selection(default: Any = None, *, kw_only: bool = False) -> Any:
    """Declares a field that holds a mask; `update_leaf` gets whether the leaf is selected, under the name of the
    field.

    Args:
      default: The default of the field; None selects all leaves.
      kw_only: Whether the constructor takes the field by keyword only.
    """
    return per_leaf(each, default, check=check, kw_only=kw_only)


def applies_to(default: Any = None, *, kw_only: bool = False) -> Any:
    """Declares a field that holds a mask of the leaves to which the rule applies; other leaves pass unchanged.

    Args:
      default: The default of the field; None selects all leaves.
      kw_only: Whether the constructor takes the field by keyword only.
    """
    return field(check, default=default, kw_only=kw_only, metadata={_APPLIES: True})


def leaf_fields(cls: Any) -> tuple[dict[str, Callable[[str, Any, Any], list[Any]]], str | None]:
    """Returns the `per_leaf` fields of a class by name, and the name of the field that says where the rule applies."""
    found = {f.name: f.metadata for f in dataclasses.fields(cls)}
    where = [name for name, metadata in found.items() if metadata.get(_APPLIES)]
    return {name: metadata[EACH] for name, metadata in found.items() if EACH in metadata}, where[0] if where else None
