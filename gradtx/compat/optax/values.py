"""Functions at the top level of optax that have another home, or name, in gradtx."""

from __future__ import annotations

from typing import Any

from jax import Array

import gradtx as gx

safe_int32_increment = gx.safe_increment
tree_map_params = gx.tree.map_params


def global_norm(updates: Any) -> Array:
    """The Euclidean norm of the whole tree.

    >>> import gradtx.compat.optax as optax
    >>> print(optax.global_norm({"w": 3.0, "b": 4.0}))
    5.0
    """
    return gx.tree.norm(updates)
