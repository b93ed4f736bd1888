"""Trees of constants, and trees with axes for a batch."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

__all__ = ["batch_shape", "full_like", "ones_like", "zeros_like"]


def zeros_like(tree: Any, dtype: DTypeLike | None = None) -> Any:
    """The tree with zeros in place of its entries.

    Args:
      tree: The tree; leaves may be shapes (`jax.ShapeDtypeStruct`). Zeros lie where the leaf lies.
      dtype: The dtype of all leaves; by default each keeps its own.

    >>> import jax, gradtx as gx
    >>> print(gx.tree.zeros_like({"a": jax.ShapeDtypeStruct((2,), "float32")}))
    {'a': Array([0., 0.], dtype=float32)}
    """
    if any(map(_must_be_placed, jax.tree.leaves(tree))):
        return full_like(tree, 0, dtype)
    return _zeros_like(tree, dtype)


def _must_be_placed(x: Any) -> bool:
    """Whether a compiled program of constants would put its zeros elsewhere: whole on each device of a mesh."""
    split = isinstance(x, jax.Array) and not isinstance(x, Tracer) and len(x.sharding.device_set) > 1
    return split or isinstance(x, jax.ShapeDtypeStruct)


@functools.partial(jax.jit, static_argnums=1)
def _zeros_like(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros_like(x, dtype=dtype), tree)


def ones_like(tree: Any, dtype: DTypeLike | None = None) -> Any:
    """The tree with ones in place of its entries; see `zeros_like`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.ones_like({"a": jnp.zeros(2)})["a"])
    [1. 1.]
    """
    return full_like(tree, 1, dtype)


def full_like(tree: Any, fill_value: ArrayLike, dtype: DTypeLike | None = None) -> Any:
    """The tree with `fill_value` in place of its entries; see `zeros_like`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.full_like({"a": jnp.zeros(2)}, 7)["a"])
    [7. 7.]
    """
    return jax.tree.map(lambda x: jnp.full_like(x, fill_value, dtype=dtype), tree)


def batch_shape(tree: Any, shape: tuple[int, ...] = ()) -> Any:
    """The tree with further axes in front of every leaf, along which it is repeated.

    Args:
      tree: The tree.
      shape: The lengths of the new axes.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.tree.batch_shape({"a": jnp.ones(3)}, (5,))["a"].shape
    (5, 3)
    """
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *jnp.shape(x))), tree)
