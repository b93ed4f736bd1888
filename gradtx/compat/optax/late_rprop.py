"""Rprop as in optax, one step late: each update is the step that the gradient before called for."""

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
    """Takes the steps of Rprop as in optax: every update is one step late, and the first is zero.

    Args:
      learning_rate: The first step size of every entry.
      eta_minus: Factor of an entry's step size after a change of the gradient's sign. 0.5 by default.
      eta_plus: Factor of an entry's step size without a change of sign. 1.2 by default.
      min_step_size: The smallest step size. 1e-6 by default.
      max_step_size: The largest step size. 50 by default.
      late: Whether updates are one step late. True by default; False for the method as published.

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
    """Rprop as in optax: every update is one step late, and the first is zero.

    Args:
      learning_rate: The first step size of every entry.
      eta_minus: Factor of an entry's step size after a change of the gradient's sign. 0.5 by default.
      eta_plus: Factor of an entry's step size without a change of sign. 1.2 by default.
      min_step_size: The smallest step size. 1e-6 by default.
      max_step_size: The largest step size. 50 by default.
      late: Whether updates are one step late. True by default; False for the method as published.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> tx, g = optax.rprop(0.1), jnp.ones(1)
    >>> print(tx.update(g, tx.update(g, tx.init(g))[1])[0])
    [-0.1]
    """
    rule = _Late if late else gx.scale_by_rprop
    return gx.chain(rule(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), gx.scale(-1.0))
