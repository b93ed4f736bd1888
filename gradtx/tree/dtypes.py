"""Dtypes of trees: finding them and casting."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gradtx import checks, leaf

__all__ = ["cast", "cast_like", "dtype"]


def cast(tree: Any, dtype: DTypeLike | None) -> Any:
    """Casts the leaves of a tree to a dtype.

    A finite number beyond the range of `dtype` becomes its largest number, not infinity. Random keys are left
    alone.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      dtype: The dtype of all leaves; None returns the tree unchanged.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.cast({"a": jnp.array([1.0, 1e6])}, jnp.float16)["a"])
    [1.00e+00 6.55e+04]
    """
    return tree if dtype is None else jax.tree.map(lambda x: _cast(x, dtype), tree)


def cast_like(tree: Any, other_tree: Any) -> Any:
    """Casts each leaf of a tree to the dtype of the corresponding leaf of another tree.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      other_tree: A tree of the same structure. Where its leaf has no dtype, such as a Python number, nothing is
        cast.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.tree.cast_like({"a": jnp.ones(1)}, {"a": jnp.ones(1, jnp.bfloat16)})
    {'a': Array([1], dtype=bfloat16)}

    Raises:
      ValueError: the trees differ in structure.
    """
    if jax.tree.structure(tree) != jax.tree.structure(other_tree):
        raise checks.tree_mismatch("cast_like", "tree", tree, "other_tree", other_tree)
    return jax.tree.map(lambda x, like: _cast(x, like.dtype) if hasattr(like, "dtype") else x, tree, other_tree)


def _cast(x: Any, dtype: Any) -> Array:
    x = jnp.asarray(x)
    if checks.kind(x.dtype) == "key":
        return x
    real = jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.floating)
    return leaf.narrow(x, jnp.dtype(dtype)) if real else x.astype(dtype)


_HANDLERS = (None, "promote", "highest", "lowest")


def dtype(tree: Any, mixed_dtype_handler: str | None = None) -> Any:
    """Returns the dtype of the leaves of a tree; JAX's default dtype if there are no leaves.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      mixed_dtype_handler: What to do if the leaves have several dtypes. None (default) raises. "promote" returns
        the dtype to which JAX promotes them all. "highest" and "lowest" return one of the leaves' dtypes: the one
        to which the others are promoted, or the one that is promoted to the others.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tree = {"a": jnp.ones(1, "bfloat16"), "b": jnp.ones(1, "float32")}
    >>> print(gx.tree.dtype(tree, "lowest"), gx.tree.dtype(tree, "highest"))
    bfloat16 float32

    Raises:
      ValueError: the leaves have several dtypes and `mixed_dtype_handler` is None, or is another word; or none of
        them is the highest or the lowest, because JAX promotes two of them to a third.
    """
    checks.choice("dtype", "mixed_dtype_handler", mixed_dtype_handler, _HANDLERS)
    found: dict[Any, str] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        found.setdefault(_dtype_of(x), checks.keystr(path))
    if not found:
        return jnp.asarray([]).dtype
    promoted = functools.reduce(jnp.promote_types, found)
    if mixed_dtype_handler == "promote" or len(found) == 1:
        return promoted
    shown = ", ".join(f"{jnp.dtype(one).name} at {path}" for one, path in found.items())
    if mixed_dtype_handler is None:
        raise ValueError(
            f"dtype: the leaves of tree have several dtypes: {shown}. Cast the tree, or give mixed_dtype_handler: "
            "'promote', 'highest' or 'lowest'."
        )
    if mixed_dtype_handler == "highest":
        ends = [one for one in found if one == promoted]
    else:
        ends = [one for one in found if all(jnp.promote_types(one, other) == other for other in found)]
    if not ends:
        raise ValueError(
            f"dtype: none of the dtypes of tree is the {mixed_dtype_handler}: JAX promotes two of them to a third. "
            f"There are {shown}. Use mixed_dtype_handler='promote', or cast the tree."
        )
    return ends[0]


def _dtype_of(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype
