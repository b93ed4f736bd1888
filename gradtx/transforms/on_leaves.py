"""`stateless_with_tree_map`: makes a transformation from a function of one leaf."""

from __future__ import annotations

from typing import Any

import jax

from gradtx import checks
from gradtx.core.transformation import stateless
from gradtx.types import Params, State, Updates

__all__ = ["stateless_with_tree_map"]


class stateless_with_tree_map(stateless):
    """Makes a transformation without state from a function `f(update, param) -> update` of single arrays.

    The function is called for every leaf. If the function needs whole trees, use `stateless`. If you need
    hyperparameters, schedules or dtype checks, subclass a class of `gx.rules` instead.

    Args:
      f: Function of one array of the updates and the matching array of the parameters, which is None if `update` is
        called without `params`. The function is static: a different function recompiles a jitted step.

    Returns:
      A transformation without state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> follow = gx.stateless_with_tree_map(lambda g, p: g * jnp.sign(p))
      >>> print(follow.update({"w": jnp.array([3.0, 4.0])}, gx.EmptyState(), {"w": jnp.array([-1.0, 2.0])})[0]["w"])
      [-3.  4.]

    Raises:
      ValueError: The trees of updates and `params` differ in structure.
    """

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        self._check_state(updates, state, params)
        if params is None:
            return jax.tree.map(lambda u: self.f(u, None), updates), state
        checks.same_tree(type(self).__name__, "updates", updates, "params", params)
        return jax.tree.map(self.f, updates, params), state
