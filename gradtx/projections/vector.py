"""What the projections share: a tree as one vector, and the data of a set as numbers that go with it."""

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
    """The leaves of a tree of floating arrays; raises a TypeError if a leaf is none, or if it is complex and `real`."""
    leaves = jax.tree.leaves(whole)
    checks.floating(who, name, whole, leaves)
    if real:
        checks.real(who, name, whole, leaves)
    return leaves


def vector(who: str, whole: Any, name: str = "tree") -> tuple[Array, Callable[[Array], Any]]:
    """The tree as one vector in float32 or wider, and the function that makes such a tree of one."""
    check(who, whole, name=name)
    return tree.raveled(whole)


def vector_like(who: str, name: str, data: Any, whole: Any, x: Array) -> Array:
    """A number, or a tree like `whole`, as a vector like `x`."""
    if _is_scalar(data):
        return jnp.full_like(x, number(who, name, data, x.dtype, signed=True))
    _same_shapes(who, name, data, whole)
    return vector(who, data, name)[0].astype(x.dtype)


def each_like(who: str, name: str, data: Any, whole: Any) -> list[Any]:
    """A number, or a tree like `whole` (its leaves may be numbers), as one item for each leaf."""
    leaves = jax.tree.leaves(whole)
    if _is_scalar(data):
        number(who, name, data, np.dtype("float32"), signed=True)
        return [data] * len(leaves)
    items = _leaves_like(who, name, data, whole)
    filled = [x if np.ndim(item) == 0 else item for item, x in zip(items, leaves, strict=True)]
    checks.same_shapes(who, name, data, filled, "the tree", leaves)
    return items


def number(who: str, name: str, value: Any, dtype: Any, *, signed: bool = False) -> Array:
    """A scalar of the dtype; raises if a concrete number is infinite, NaN, or negative unless `signed`."""
    limits = Limits(infinite=True) if signed else Limits(ge=0, infinite=True)
    value = limits.check(who, name, value, schedules=False)
    if np.ndim(value):
        raise ValueError(
            f"{who}: {name} must be one number, got {checks.shown(value)}. For many sets at once, use jax.vmap."
        )
    return jnp.asarray(value).astype(dtype)


def widened(x: Any) -> Array:
    """A leaf as an array in float32 or wider."""
    return leaf.widen(jnp.asarray(x))


def narrowed(new: list[Array], whole: Any) -> Any:
    """New leaves in the dtypes and places of those of `whole`."""
    leaves, treedef = jax.tree.flatten(whole)
    pairs = zip(new, leaves, strict=True)
    return treedef.unflatten([mesh.put(leaf.narrow(x, jnp.result_type(old)), mesh.place(old)) for x, old in pairs])


def unit(x: Array, axis: tuple[int, ...] | None = None) -> Array:
    """A power of two near the largest entry; 1 for zeros, for nothing, and for what is not finite.

    Divided by it, entries have squares and sums that are representable; the division is exact. With `axis`, one for
    each part, with axes of size 1.
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
