"""Leaves as matrices: the field `weight_dimension_numbers` of rules that act on matrices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gradtx import checks
from gradtx.core import mask
from gradtx.linalg.matrix_view import MatrixView, WeightDimensionNumbers

__all__ = ["check", "numbers_of", "views"]


def check(who: str, name: str, value: Any) -> Any:
    """Dimension numbers as they are stored: None, one for all leaves, or a function of a tree."""
    if value is None or isinstance(value, WeightDimensionNumbers) or callable(value):
        return value
    table = mask.by_path(value)
    for path, x in table.table.tree.items():
        if not _is_numbers(x):
            raise TypeError(
                f"{who}: {name} must be None, WeightDimensionNumbers, a tree of them, or a function from a tree to "
                f"such a tree; at {path} it is {checks.shown(x)}."
            )
    return table


def _is_numbers(x: Any) -> bool:
    return x is None or isinstance(x, WeightDimensionNumbers)


def numbers_of(numbers: Any, tree: Any) -> list[Any]:
    """The dimension numbers of each leaf, None where there are none; a list is taken as such."""
    if isinstance(numbers, list):
        return numbers
    if not callable(numbers):
        return [numbers] * len(jax.tree.leaves(tree))
    items, structure = jax.tree.flatten(numbers(tree), is_leaf=_is_numbers)
    parts = structure.flatten_up_to(tree)
    return [x for x, part in zip(items, parts, strict=True) for _ in jax.tree.leaves(part)]


def views(who: str, numbers: Any, tree: Any) -> list[MatrixView]:
    """How each leaf is seen as a stack of matrices."""
    found = []
    for (path, x), number in zip(jax.tree_util.tree_leaves_with_path(tree), numbers_of(numbers, tree), strict=True):
        try:
            found.append(MatrixView.of(np.shape(x), number))
        except ValueError as error:
            raise ValueError(f"{who}: at {checks.keystr(path)}: {error}") from None
    return found
