"""Slow copies of parameters that a training loop updates itself, such as target networks.

    incremental_update    target <- step_size * params + (1 - step_size) * target
    periodic_update       target <- params at every update_period-th step

Mnih et al., 2015, "Human-level control through deep reinforcement learning"; Lillicrap et al., 2016, "Continuous
control with deep reinforcement learning"; Grill et al., 2020, "Bootstrap Your Own Latent". (`gx.ema_params` and
`gx.polyak_average` keep such averages in the optimizer's state.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf

__all__ = ["incremental_update", "periodic_update"]


def incremental_update(new_tensors: Any, old_tensors: Any, step_size: Any) -> Any:
    """Moves a slow copy a little towards the parameters: one step of an exponential moving average.

    Use it for target networks of reinforcement learning or teachers of self-supervised learning.

    Args:
      new_tensors: The parameters, a tree of arrays. Leaves that are not floats, such as counters, are copied.
      old_tensors: The average so far, a tree like them.
      step_size: Fraction of `new_tensors` in the new average, a number or an array; often 0.001 to 0.01. In [0, 1].

    Returns:
      The average, in the dtypes of `old_tensors`, computed in float32 or wider. An average in 16 bits does not
      follow a small `step_size`: keep it in float32.

    Raises:
      TypeError: `step_size` is not a number.
      ValueError: the trees or shapes differ, or `step_size` is not in [0, 1].

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.incremental_update({"w": jnp.array([2.0])}, {"w": jnp.array([1.0])}, 0.25)["w"])
    [1.25]
    """
    who = "incremental_update"
    checks.same_tree(who, "new_tensors", new_tensors, "old_tensors", old_tensors)
    if leaf.is_number(step_size) and not 0 <= step_size <= 1:
        raise ValueError(f"{who}: step_size must be in [0, 1], got {step_size!r}.")
    checks.scalar(who, "step_size", step_size)

    def moved(new: Any, old: Any) -> Array:
        new, old = jnp.asarray(new), jnp.asarray(old)
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            return new.astype(old.dtype)
        return leaf.narrow(leaf.widen(new) * step_size + leaf.widen(old) * (1 - step_size), old.dtype)

    return jax.tree.map(moved, new_tensors, old_tensors)


def periodic_update(new_tensors: Any, old_tensors: Any, steps: Any, update_period: Any) -> Any:
    """Replaces a copy of the parameters at every `update_period`-th step, and keeps it at all others.

    Use it for target networks of reinforcement learning that are copied as a whole.

    Args:
      new_tensors: The parameters, a tree of arrays.
      old_tensors: The copy, a tree like them.
      steps: Number of steps taken so far, an integer or an integer array. The copy is also replaced at step 0.
      update_period: Number of steps between two replacements, an integer or an integer array. Positive.

    Returns:
      The copy, in the dtypes of `old_tensors`.

    Raises:
      TypeError: `steps` or `update_period` is not an integer.
      ValueError: the trees or shapes differ, or `update_period` is not positive.

    >>> import gradtx as gx
    >>> [int(gx.periodic_update(10, 20, steps, update_period=3)) for steps in range(5)]
    [10, 20, 20, 10, 20]
    """
    who = "periodic_update"
    checks.same_tree(who, "new_tensors", new_tensors, "old_tensors", old_tensors)
    for name, x, least in (("steps", steps, 0), ("update_period", update_period, 1)):
        if leaf.is_number(x):
            checks.integer(who, name, x, ge=least)
        elif checks.kind(checks.dtype(x)) != "integer":
            raise TypeError(f"{who}: {name} must be an integer or an integer array, got {checks.shown(x)}.")
    due = jnp.asarray(steps) % update_period == 0

    def chosen(new: Any, old: Any) -> Array:
        old = jnp.asarray(old)
        return jnp.where(due, jnp.asarray(new).astype(old.dtype), old)

    return jax.tree.map(chosen, new_tensors, old_tensors)
