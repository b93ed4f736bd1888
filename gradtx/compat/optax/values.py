"""Functions at the top level of optax that have another home, or name, in gradtx."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

import gradtx as gx

tree_map_params = gx.tree.map_params


def safe_increment(count: Any) -> Array:
    """The count plus one; the largest number of its dtype stays as it is.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.safe_increment(jnp.int8(127)))
    127

    Raises:
      ValueError: As in optax, the count holds neither integers nor floats; gradtx's own raises a TypeError.
    """
    try:
        return gx.safe_increment(count)
    except TypeError as error:
        raise ValueError(str(error)) from error


safe_int32_increment = safe_increment


def global_norm(updates: Any) -> Array:
    """The Euclidean norm of the whole tree.

    >>> import gradtx.compat.optax as optax
    >>> print(optax.global_norm({"w": 3.0, "b": 4.0}))
    5.0
    """
    return gx.tree.norm(updates)


def _without_leaves_of_none(tree: Any, like: Any) -> Any:
    """The tree with None wherever `like` has None."""
    return jax.tree.map(lambda x, y: None if x is None else y, like, tree, is_leaf=lambda x: x is None)


def apply_updates(params: Any, updates: Any) -> Any:
    """`params + updates` in the parameters' dtypes; where a parameter is None, None, whatever the update is.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.apply_updates({"w": jnp.ones(1), "f": None}, {"w": jnp.ones(1), "f": jnp.ones(1)}))
    {'f': None, 'w': Array([2.], dtype=float32)}
    """
    return gx.apply_updates(params, _without_leaves_of_none(updates, params))


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """`old_tensors`, moved towards `new_tensors`; where a new one is None, None.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.incremental_update(jnp.ones(1), jnp.zeros(1), 0.25))
    [0.25]
    """
    return gx.incremental_update(new_tensors, _without_leaves_of_none(old_tensors, new_tensors), step_size)
