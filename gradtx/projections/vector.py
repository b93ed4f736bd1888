"""Helpers of the projections: a tree as one vector, and the data of a set as numbers that fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree
from gradtx.core.hyper import Limits

__all__ = ["check", "each_like", "narrowed", "number", "unit", "vector", "vector_like", "widened"]


def check(who: str, whole: Any, *, real: bool = True, name: str = "tree") -> list[Any]:
    """Returns the leaves of a tree; raises a TypeError unless all are floating-point arrays, and real if `real`."""
    leaves = jax.tree.leaves(whole)
    checks.floating(who, name, whole, leaves)
    if real:
        checks.real(who, name, whole, leaves)
    return leaves


def vector(who: str, whole: Any, name: str = "tree") -> tuple[Array, Callable[[Array], Any]]:
    """Returns the tree as one vector in float32 or wider, and the function that converts such a vector back to a
    tree.
    """
    check(who, whole, name=name)
    return tree.raveled(whole)


def vector_like(who: str, name: str, data: Any, whole: Any, x: Array) -> Array:
    """Returns a number, or a tree like `whole`, as a vector like `x`."""
    if _is_scalar(data):
        return jnp.full_like(x, number(who, name, data, x.dtype, signed=True))
    _same_shapes(who, name, data, whole)
    return vector(who, data, name)[0].astype(x.dtype)


def each_like(who: str, name: str, data: Any, whole: Any) -> list[Any]:
    """Returns a number, or a tree like `whole` (its leaves may be numbers), as one item for each leaf."""
    leaves = jax.tree.leaves(whole)
    if _is_scalar(data):
        number(who, name, data, np.dtype("float32"), signed=True)
        return [data] * len(leaves)
    items = _leaves_like(who, name, data, whole)
    filled = [x if np.ndim(item) == 0 else item for item, x in zip(items, leaves, strict=True)]
    checks.same_shapes(who, name, data, filled, "the tree", leaves)
    return items


def number(who: str, name: str, value: Any, dtype: Any, *, signed: bool = False) -> Array:
    """Returns a scalar of the dtype; raises if a concrete number is infinite, NaN, or negative unless `signed`."""
    limits = Limits(infinite=True) if signed else Limits(ge=0, infinite=True)
    value = limits.check(who, name, value, schedules=False)
    if np.ndim(value):
        raise ValueError(
            f"{who}: {name} must be one number, got {checks.shown(value)}. For many sets at once, use jax.vmap."
        )
    return jnp.asarray(value).astype(dtype)


def widened(x: Any) -> Array:
    """Returns a leaf as an array in float32 or wider."""
    return leaf.widen(jnp.asarray(x))


def narrowed(new: list[Array], whole: Any) -> Any:
    """Returns new leaves as a tree, in the dtypes and placements of the leaves of `whole`."""
    leaves, treedef = jax.tree.flatten(whole)
    pairs = zip(new, leaves, strict=True)
    return treedef.unflatten([mesh.put(leaf.narrow(x, jnp.result_type(old)), mesh.place(old)) for x, old in pairs])


def unit(x: Array, axis: tuple[int, ...] | None = None) -> Array:
    """Returns a power of two near the largest entry; 1 if that is zero or not finite, or if there are no entries.

    After the division, which is exact, squares and sums of the entries can be represented. With `axis` there is one
    unit for each part, and the axes have size 1.
    """
    largest = jnp.max(jnp.abs(lax.stop_gradient(x)), axis=axis, keepdims=axis is not None, initial=0)
    some = (largest > 0) & jnp.isfinite(largest)
    _, exponent = jnp.frexp(jnp.where(some, largest, 1))
    limit = jnp.finfo(largest.dtype).maxexp - 2  # both the unit and its inverse are normal numbers
    return jnp.where(some, jnp.ldexp(jnp.ones_like(largest), jnp.clip(exponent, -limit, limit)), 1)


def _is_scalar(x: Any) -> bool:
    return leaf.is_number(x) or (isinstance(x, (jax.Array, np.ndarray)) and x.ndim == 0)


def _leaves_like(who: str, name: str, data: Any, whole: Any) -> list[Any]:
    leaves, treedef = jax.tree.flatten(data)
    if treedef != jax.tree.structure(whole):
        raise checks.tree_mismatch(who, name, data, "the tree", whole)
    return leaves


def _same_shapes(who: str, name: str, data: Any, whole: Any) -> None:
    checks.same_shapes(who, name, data, _leaves_like(who, name, data, whole), "the tree", jax.tree.leaves(whole))
