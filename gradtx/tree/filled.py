"""Trees that are filled with constants, and trees with further axes for a batch."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from gradtx import mesh

__all__ = ["batch_shape", "full_like", "ones_like", "zeros_like"]


def zeros_like(tree: Any, dtype: DTypeLike | None = None) -> Any:
    """Makes a tree of zeros with the shapes of another tree.

    Args:
      tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`). On a mesh, zeros are placed like the leaf.
      dtype: The dtype of all leaves. None (default) keeps the dtype of each leaf.

    Returns:
      A tree like `tree`.

    >>> import jax, gradtx as gx
    >>> print(gx.tree.zeros_like({"a": jax.ShapeDtypeStruct((2,), "float32")}))
    {'a': Array([0., 0.], dtype=float32)}
    """
    if any(map(_must_be_placed, jax.tree.leaves(tree))):
        return full_like(tree, 0, dtype)
    return _zeros_like(tree, dtype)


def _must_be_placed(x: Any) -> bool:
    """Whether a compiled program of constants would place its zeros wrongly: whole on each device of a mesh."""
    split = isinstance(x, jax.Array) and not isinstance(x, Tracer) and len(x.sharding.device_set) > 1
    return split or isinstance(x, jax.ShapeDtypeStruct)


@functools.partial(jax.jit, static_argnums=1)
def _zeros_like(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: mesh.full_like(x, 0, dtype), tree)


def ones_like(tree: Any, dtype: DTypeLike | None = None) -> Any:
    """Makes a tree of ones with the shapes of another tree.

    Args:
      tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`).
      dtype: The dtype of all leaves. None (default) keeps the dtype of each leaf.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.ones_like({"a": jnp.zeros(2)})["a"])
    [1. 1.]
    """
    return full_like(tree, 1, dtype)


def full_like(tree: Any, fill_value: ArrayLike, dtype: DTypeLike | None = None) -> Any:
    """Makes a tree that is filled with a number, with the shapes of another tree.

    Args:
      tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`).
      fill_value: The value of all entries.
      dtype: The dtype of all leaves. None (default) keeps the dtype of each leaf.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.full_like({"a": jnp.zeros(2)}, 7)["a"])
    [7. 7.]
    """
    return jax.tree.map(lambda x: mesh.full_like(x, fill_value, dtype), tree)


def batch_shape(tree: Any, shape: tuple[int, ...] = ()) -> Any:
    """Repeats a tree along new axes in front of every leaf.

    Use it to start a batch of runs under `jax.vmap` from the same parameters.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      shape: The lengths of the new axes. None are added by default.

    Returns:
      A tree of the same structure.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.tree.batch_shape({"a": jnp.ones(3)}, (5,))["a"].shape
    (5, 3)
    """
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *jnp.shape(x))), tree)
