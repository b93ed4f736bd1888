"""Rprop one step late, as in optax: each update is computed from the previous gradient."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

import gradtx as gx
from gradtx import leaf
from gradtx.compat.optax.spelled import spelled
from gradtx.core.hyper import HyperArg

__all__ = ["rprop", "scale_by_rprop"]


class _Late(gx.scale_by_rprop):
    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        _, new = super().update_leaf(g, slots, p, shared)
        turned = leaf.sign(g) * leaf.sign(slots.prev_updates) < 0
        return jnp.where(turned, 0, slots.prev_updates), new


_Late.__name__ = "scale_by_rprop"


@spelled
def scale_by_rprop(
    learning_rate: HyperArg,
    eta_minus: HyperArg = 0.5,
    eta_plus: HyperArg = 1.2,
    min_step_size: HyperArg = 1e-6,
    max_step_size: HyperArg = 50.0,
    *,
    late: bool = True,
) -> Any:
    """Computes the steps of Rprop, one step late as in optax unless `late` is False.

    Args:
      learning_rate: Step size of the first step. Not negative.
      eta_minus: Factor by which a step size shrinks after the gradient changed its sign (default 0.5). In (0, 1).
      eta_plus: Factor by which a step size grows while the sign stays the same (default 1.2).
      min_step_size: Smallest step size (default 1e-6). Positive.
      max_step_size: Largest step size (default 50). Positive.
      late: Whether each update uses the previous gradient, as in optax; the first update is then zero. Default True.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx, g = optax.scale_by_rprop(0.1), jnp.ones(1)
      >>> first, state = tx.update(g, tx.init(g))
      >>> print(first, tx.update(g, state)[0])
      [0.] [0.1]
    """
    rule = _Late if late else gx.scale_by_rprop
    return rule(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size)


@spelled
def rprop(
    learning_rate: HyperArg,
    eta_minus: HyperArg = 0.5,
    eta_plus: HyperArg = 1.2,
    min_step_size: HyperArg = 1e-6,
    max_step_size: HyperArg = 50.0,
    *,
    late: bool = True,
) -> Any:
    """Rprop: a step size for each entry, which grows while the sign of its gradient stays the same.

    Use it with full batches.

    Args:
      learning_rate: Step size of the first step. Not negative.
      eta_minus: Factor by which a step size shrinks after the gradient changed its sign (default 0.5). In (0, 1).
      eta_plus: Factor by which a step size grows while the sign stays the same (default 1.2).
      min_step_size: Smallest step size (default 1e-6). Positive.
      max_step_size: Largest step size (default 50). Positive.
      late: Whether each update uses the previous gradient, as in optax; the first update is then zero. Default True.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx, g = optax.rprop(0.1), jnp.ones(1)
      >>> print(tx.update(g, tx.update(g, tx.init(g))[1])[0])
      [-0.1]
    """
    rule = _Late if late else gx.scale_by_rprop
    return gx.chain(rule(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), gx.scale(-1.0))
