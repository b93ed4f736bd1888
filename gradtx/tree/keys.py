"""Trees of random numbers and of random keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import DTypeLike

from gradtx import checks, mesh

__all__ = ["random_like", "split_key_like", "unwrap_random_key_data"]


def split_key_like(rng_key: Array, target_tree: Any) -> Any:
    """Splits a random key into a tree of keys, one for each leaf of another tree.

    Args:
      rng_key: A random key from `jax.random.key` or `jax.random.PRNGKey`.
      target_tree: The tree whose structure the result has.

    Returns:
      A tree of random keys.

    >>> import jax, gradtx as gx
    >>> jax.tree.map(jax.numpy.shape, gx.tree.split_key_like(jax.random.key(0), {"a": 1.0, "b": None}))
    {'a': (), 'b': None}

    Raises:
      TypeError, ValueError: `rng_key` is not a single random key.
    """
    checks.random_key("split_key_like", "rng_key", rng_key)
    treedef = jax.tree.structure(target_tree)
    return treedef.unflatten(jax.random.split(rng_key, treedef.num_leaves))


def random_like(
    rng_key: Array,
    target_tree: Any,
    sampler: Callable[..., Any] = jax.random.normal,
    dtype: DTypeLike | None = None,
) -> Any:
    """Makes a tree of random numbers with the shapes of another tree. Leaves are independent.

    Args:
      rng_key: A random key from `jax.random.key` or `jax.random.PRNGKey`.
      target_tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`). On a mesh, numbers are placed like the leaf.
      sampler: The distribution, a function `sampler(key, shape, dtype)` such as `jax.random.normal` (default),
        `jax.random.uniform` or `jax.random.rademacher`.
      dtype: The dtype of all leaves; the sampler must support it. None (default) keeps the dtype of each leaf.

    Returns:
      A tree like `target_tree`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.random_like(jax.random.key(0), {"a": jnp.ones(3)}, jax.random.rademacher)["a"])
    [-1.  1.  1.]
    """
    checks.random_key("random_like", "rng_key", rng_key)
    placed = "out_sharding" in inspect.signature(sampler).parameters

    def one(x: Any, key: Array) -> Any:
        where = {"out_sharding": jax.typeof(x).sharding} if placed and isinstance(x, Tracer) else {}
        drawn = sampler(key, np.shape(x), jnp.result_type(x) if dtype is None else dtype, **where)
        return mesh.along(drawn, x, range(drawn.ndim)) if isinstance(x, Array) else drawn

    return jax.tree.map(one, target_tree, split_key_like(rng_key, target_tree))


def unwrap_random_key_data(input_tree: Any) -> Any:
    """Replaces the random keys in a tree by their bits, so that the tree can be compared and saved.

    Args:
      input_tree: A tree that may contain typed random keys; other leaves are unchanged.

    Returns:
      A tree of arrays.

    >>> import jax, gradtx as gx
    >>> gx.tree.unwrap_random_key_data({"key": jax.random.key(3)})
    {'key': Array([0, 3], dtype=uint32)}
    """

    def one(x: Any) -> Any:
        is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(one, input_tree)
