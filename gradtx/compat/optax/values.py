"""Functions at the top level of optax that have a different name or module in gradtx."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

import gradtx as gx

tree_map_params = gx.tree.map_params


def safe_increment(count: Any) -> Array:
    """Returns the count plus one, or the count itself if it is the largest number of its dtype.

    Args:
      count: A number or an array of integers or floats.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.safe_increment(jnp.int8(127)))
      127

    Raises:
      ValueError: As in optax, if the count holds neither integers nor floats; gradtx's own function raises a TypeError.
    """
    try:
        return gx.safe_increment(count)
    except TypeError as error:
        raise ValueError(str(error)) from error


safe_int32_increment = safe_increment


def global_norm(updates: Any) -> Array:
    """Computes the Euclidean norm of a whole tree.

    Args:
      updates: A tree of arrays.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> print(optax.global_norm({"w": 3.0, "b": 4.0}))
      5.0
    """
    return gx.tree.norm(updates)


def _without_leaves_of_none(tree: Any, like: Any) -> Any:
    """Returns the tree with None in place of each leaf for which `like` has None."""
    return jax.tree.map(lambda x, y: None if x is None else y, like, tree, is_leaf=lambda x: x is None)


def apply_updates(params: Any, updates: Any) -> Any:
    """Adds the updates to the parameters, in the parameters' dtypes.

    Args:
      params: The parameters. A parameter that is None stays None, whatever its update is.
      updates: A tree of updates like `params`.

    Returns:
      The new parameters.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.apply_updates({"w": jnp.ones(1), "f": None}, {"w": jnp.ones(1), "f": jnp.ones(1)}))
      {'f': None, 'w': Array([2.], dtype=float32)}
    """
    return gx.apply_updates(params, _without_leaves_of_none(updates, params))


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """Moves `old_tensors` towards `new_tensors` by the fraction `step_size` of their difference.

    Args:
      new_tensors: A tree of arrays, such as the parameters. If a leaf is None, it is None in the result.
      old_tensors: A tree of arrays like `new_tensors`, such as their moving average.
      step_size: Fraction of the difference. In [0, 1].

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.incremental_update(jnp.ones(1), jnp.zeros(1), 0.25))
      [0.25]
    """
    return gx.incremental_update(new_tensors, _without_leaves_of_none(old_tensors, new_tensors), step_size)
