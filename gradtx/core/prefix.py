"""Trees with the structure of the parameters or of their upper part, such as masks, labels and depths.

In `{"encoder": True, "head": False}` the single `True` applies to all parameters of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from gradtx import checks

__all__ = ["ByPath", "spread"]


def spread(
    who: str,
    name: str,
    prefix: Any,
    like_name: str,
    tree: Any,
    *,
    is_item: Callable[[Any], bool] | None = None,
    found_by_path: bool = True,
) -> list[Any]:
    """Returns for each leaf of `tree` the item of `prefix` at its path, or at the nearest path above it.

    `is_item` says which nodes of `prefix` are items, if these may be containers such as tuples. `found_by_path`
    says whether the argument may be a `lookup_by_path`.

    Raises:
      ValueError: a leaf of `tree` has no item, or an item has no leaf.
    """
    try:  # with the same structure, the node at a leaf is its item, whatever it is
        if is_item is not None:
            return jax.tree.structure(tree).flatten_up_to(prefix)
    except ValueError:
        pass
    items, structure = jax.tree.flatten(prefix, is_leaf=is_item)
    try:
        parts = structure.flatten_up_to(tree)
    except ValueError:
        raise _mismatch(who, name, prefix, like_name, tree, is_item, found_by_path) from None
    return [item for item, part in zip(items, parts, strict=True) for _ in jax.tree.leaves(part)]


def _mismatch(
    who: str, name: str, prefix: Any, like_name: str, tree: Any, is_item: Any, found_by_path: bool
) -> ValueError:
    """Returns the error that says which leaves have no item, and which items have no leaf."""
    leaves = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    items = [path for path, _ in jax.tree_util.tree_leaves_with_path(prefix, is_leaf=is_item)]
    covered = {path[:n] for path in leaves for n in range(len(path) + 1)}
    without = [path for path in leaves if not any(path[:n] in set(items) for n in range(len(path) + 1))]
    unused = [path for path in items if path not in covered]
    found: list[str] = []
    if without:
        found.append(f"{name} says nothing of {_shown(without)}")
    if unused:
        found.append(f"{name} names {_shown(unused)}, where {like_name} has nothing")
    advice = f"Give {name} the structure of {like_name}, or a part of it from the top down that covers every leaf."
    if not found:
        found.append(f"the containers of {name} are of other types than those of {like_name}")
    elif found_by_path and unused and _is_group(tree, prefix):
        advice += (
            " Inside of masked, partition or selective_transform only the leaves of the group are seen, in a dict by "
            f"path: there write {name}=gx.lookup_by_path({name}), which finds each leaf of the whole tree."
        )
    return ValueError(f"{who}: {name} does not fit {like_name}: {'; '.join(found)}. {advice}")


def _shown(paths: Sequence[Any]) -> str:
    return checks.listed([checks.keystr(path) for path in paths])


def _is_group(tree: Any, prefix: Any) -> bool:
    """Whether `tree` may be the dict from path to leaf that a group sees of the tree for which `prefix` is meant."""
    if not (isinstance(tree, dict) and tree and jax.tree_util.all_leaves(tree.values())):
        return False
    known = checks.paths(prefix)
    return all(any(f"{key}/".startswith(f"{path}/") for path in known) for key in tree)


class ByPath:
    """A tree like the parameters, for transformations that see some of them, or parts of them, by path."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree.tree if isinstance(tree, ByPath) else tree

    def at(self, path: Sequence[Any]) -> Any:
        """Returns the item for the array at this path, or the item above it if the tree stops there.

        Raises:
          ValueError: the tree has nothing for it.
        """
        left, node = checks.slashed(path), self.tree
        while left:
            entries = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x, node=node: x is not node)[0]
            found = [(checks.slashed(key), x) for key, x in entries if key]
            names = [(name, x) for name, x in found if f"{left}/".startswith(f"{name}/")]
            if not names:
                break
            name, node = names[0]
            left = left[len(name) + 1 :]
        if left and isinstance(node, dict):
            raise ValueError(
                f"map_params: a tree in rest has nothing at {checks.slashed(path)}, where the parameters have a leaf. "
                "Give it the structure of the parameters."
            )
        return node
