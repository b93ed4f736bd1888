"""Functions at the top level of optax that have another place or name in gradtx."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

import gradtx as gx

tree_map_params = gx.tree.map_params


def safe_increment(count: Any) -> Array:
    """Adds 1 to a counter, which stays at its dtype's largest number instead of overflowing.

    Args:
      count: The counter, an array of integers or floats.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.safe_increment(jnp.int8(127)))
    127
    """
    try:
        return gx.safe_increment(count)
    except TypeError as error:
        raise ValueError(str(error)) from error


safe_int32_increment = safe_increment


def global_norm(updates: Any) -> Array:
    """Computes the Euclidean norm of a tree, treated as one vector.

    Args:
      updates: A tree of arrays, such as gradients.

    >>> import gradtx.compat.optax as optax
    >>> print(optax.global_norm({"w": 3.0, "b": 4.0}))
    5.0
    """
    return gx.tree.norm(updates)


def _without_leaves_of_none(tree: Any, like: Any) -> Any:
    """The tree with None wherever `like` has None."""
    return jax.tree.map(lambda x, y: None if x is None else y, like, tree, is_leaf=lambda x: x is None)


def apply_updates(params: Any, updates: Any) -> Any:
    """Adds updates to parameters in the parameters' dtypes; where a parameter is None, the result is None.

    Args:
      params: The parameters, a tree of arrays.
      updates: The updates, a tree of the same structure.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.apply_updates({"w": jnp.ones(1), "f": None}, {"w": jnp.ones(1), "f": jnp.ones(1)}))
    {'f': None, 'w': Array([2.], dtype=float32)}
    """
    return gx.apply_updates(params, _without_leaves_of_none(updates, params))


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """Moves `old_tensors` towards `new_tensors`; where a new one is None, the result is None.

    Args:
      new_tensors: The parameters, a tree of arrays.
      old_tensors: The average so far, a tree like them.
      step_size: The weight of the parameters. In [0, 1].

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.incremental_update(jnp.ones(1), jnp.zeros(1), 0.25))
    [0.25]
    """
    return gx.incremental_update(new_tensors, _without_leaves_of_none(old_tensors, new_tensors), step_size)
