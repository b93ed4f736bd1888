"""Leaves as matrices: the field `weight_dimension_numbers` of rules that act on matrices, and stacks of matrices.

All matrices of one shape and dtype are processed together as one stack, however many leaves they come from: a
batched product is one large operation instead of many small ones, and may be divided among devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from gradtx import checks, mesh
from gradtx.core import mask
from gradtx.core.value import per_leaf
from gradtx.linalg.matrix_view import MatrixView, WeightDimensionNumbers
from gradtx.types import Slots

__all__ = ["check", "low_rank", "matrix_axes", "numbers_of", "on_stacks", "renew", "renewed", "views"]


def check(who: str, name: str, value: Any) -> Any:
    """Returns dimension numbers as they are stored: None, one for all leaves, or a function of a tree."""
    if value is None or isinstance(value, WeightDimensionNumbers) or callable(value):
        return value
    table = mask.lookup_by_path(value)
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
    """Returns the dimension numbers of each leaf, None where there are none; a list is used as it is."""
    if isinstance(numbers, list):
        return numbers
    if not callable(numbers):
        return [numbers] * len(jax.tree.leaves(tree))
    items, structure = jax.tree.flatten(numbers(tree), is_leaf=_is_numbers)
    parts = structure.flatten_up_to(tree)
    return [x for x, part in zip(items, parts, strict=True) for _ in jax.tree.leaves(part)]


def views(who: str, numbers: Any, tree: Any) -> list[MatrixView]:
    """Returns how each leaf is seen as a stack of matrices."""
    found: list[MatrixView] = []
    for (path, x), number in zip(jax.tree_util.tree_leaves_with_path(tree), numbers_of(numbers, tree), strict=True):
        try:
            found.append(MatrixView.of(np.shape(x), number))
        except ValueError as error:
            raise ValueError(f"{who}: at {checks.keystr(path)}: {error}") from None
    return found


def matrix_axes(*, kw_only: bool = False) -> Any:
    """Declares a field that says how a rule sees each leaf as a stack of matrices: which axes are inputs, which
    outputs.

    It holds one `WeightDimensionNumbers` for all leaves, a tree of them, a function from the tree to such a tree,
    or None for (input, output), where a weight with more axes has one output axis, the last. `update_leaf` gets the
    leaf's `MatrixView` under the name of the field.

    Args:
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return per_leaf(views, check=check, kw_only=kw_only)


def low_rank(x: Array, view: MatrixView, rank: int) -> Array:
    """Returns zeros for a leaf's stack of matrices whose longer side is projected to `rank`.

    The other side is split over a mesh as in `x`.
    """
    r, rows, columns = min(rank, view.fan_in, view.fan_out), view.axis("rows"), view.axis("columns")
    tall = view.fan_in >= view.fan_out
    zeros = jnp.zeros((view.count, r, view.fan_out) if tall else (view.count, view.fan_in, r), x.dtype)
    return mesh.along(zeros, x, (None, None, columns) if tall else (None, rows, None))


def on_stacks(
    work: Callable[..., tuple[Array, Any]],
    views: Sequence[MatrixView | None],
    leaves: Sequence[Array],
    kept: Sequence[Any],
    count: Array,
    *,
    like: Any = None,
) -> tuple[list[Array], list[Any]]:
    """Calls `work(stack, kept, count)` for all matrices of one shape and dtype at once; returns `(results, kept)`.

    A stack has the shape (matrices, inputs, outputs). `kept` has for each leaf a tree of arrays whose leading axis
    counts its matrices, such as the factors of a preconditioner; `work` gets those of the stack and returns their
    next values. `count` counts the steps. The results come by leaf, each as the stack of the leaf's matrices. Leaves
    without a view are returned unchanged. On a mesh with explicit axes, the results are placed like the arrays in
    `like`, one for each leaf.
    """
    work_on = partial(_on_stacks, work, views)
    return mesh.automatic(work_on, list(leaves), list(kept), count, like=(leaves if like is None else like, kept))


def _on_stacks(
    work: Callable[..., Any],
    views: Sequence[MatrixView | None],
    leaves: list[Array],
    kept: list[Any],
    count: Array,
) -> tuple[list[Array], list[Any]]:
    results, kept = list(leaves), list(kept)
    groups: dict[Any, list[int]] = {}
    for i, (x, view) in enumerate(zip(leaves, views, strict=True)):
        if view is not None:
            results[i] = view.stacked(x)
            like = jax.tree.map(lambda a: (a.shape[1:], a.dtype.name), kept[i])
            groups.setdefault((results[i].shape[1:], x.dtype, str(like)), []).append(i)
    for places in groups.values():
        stack, old = _joined([results[i] for i in places]), jax.tree.map(_join, *(kept[i] for i in places))
        done, new = work(stack, old, count)
        parts = jax.tree.map(_divider([len(results[i]) for i in places], count), (done, new))
        for n, i in enumerate(places):
            results[i], kept[i] = jax.tree.map(
                lambda part, n=n: part[n], parts, is_leaf=lambda part: isinstance(part, list)
            )
    return results, kept


def _join(*arrays: Array) -> Array:
    return _joined(arrays)


def _joined(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays)


def _divider(sizes: Sequence[int], count: Array) -> Callable[[Array], list[Array]]:
    """Returns a function that splits a stack into parts of these sizes.

    XLA compiles identical kernels once, but slices with different constant offsets give different kernels: a hundred
    leaves would need a hundred kernels for each slot. So for many leaves the offsets are computed at run time, each
    from the previous one. `lax.rem` is used because XLA does not duplicate a remainder in several kernels. On other
    backends than the CPU, the sequence of small operations would cost more time than it saves.
    """
    if len(sizes) < _MANY or not isinstance(count, Tracer) or jax.default_backend() != "cpu":
        ends = np.cumsum(sizes)[:-1].tolist()
        return lambda x: jnp.split(x, ends)
    count = _of_one(count)
    beyond, starts = jnp.maximum(count, 2**30), [jnp.minimum(count, 0)]
    for n in sizes[:-1]:
        starts.append(lax.rem(starts[-1] + n, beyond))

    def divided(x: Array) -> list[Array]:
        rest = [jnp.zeros_like(count)] * (x.ndim - 1)
        return [
            lax.dynamic_slice(x, (start, *rest), (n, *x.shape[1:]), allow_negative_indices=False)
            for start, n in zip(starts, sizes, strict=True)
        ]

    return divided


_MANY = 8
"""The least number of leaves that share the kernels which divide their stack."""


@jax.custom_batching.custom_vmap
def _of_one(count: Array) -> Array:
    """Returns the count; under `vmap` the count of the first run, so that all runs slice at the same offsets."""
    return count


@_of_one.def_vmap
def _(size: int, batched: list[bool], count: Array) -> tuple[Array, bool]:
    return (count[0] if batched[0] and size else count), False


def renew(rule: Any, place: str, x: Array, slots: Slots, shared: Any, t: Array) -> Any:
    """Returns the slots of a stack after `renew_stack`, if the rule calls it at this step and at this place."""
    if rule._renews != place:
        return slots
    every = 1 if rule._every is None else getattr(rule, rule._every)
    return renewed(every, t - 1, lambda: rule.renew_stack(x, slots, shared), slots)


def renewed(every: int, count: Any, make: Callable[[], Any], old: Any) -> Any:
    """Returns `make()` at every `every`-th step, counted from 0, else `old`; only what is needed is computed."""
    if every == 1:
        return make()
    now = count % every == 0
    if not isinstance(now, Tracer):
        return make() if now else old
    return mesh.cond(now, make, lambda: old)
