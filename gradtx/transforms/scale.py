"""Multiplies the updates by a number: u = s * g."""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx import checks, mesh
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, hyper, largest_factor
from gradtx.core.leafwise import Elementwise
from gradtx.core.value import flag
from gradtx.types import Slots

__all__ = ["scale", "scale_by_learning_rate", "scale_by_schedule", "set_to_zero"]


class scale(Elementwise):
    """Multiplies the updates by `step_size`.

        u = step_size * g

    For the learning rate of an optimizer use `scale_by_learning_rate`, which includes the minus sign for descent.

    Args:
      step_size: The factor: a number, an array or a schedule of the step count. Any finite number.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale(2.0)
      >>> updates, _ = tx.update(jnp.array([1.0, -3.0]), tx.init(jnp.zeros(2)))
      >>> print(updates)
      [ 2. -6.]
    """

    step_size: Hyper = hyper()

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * self.step_size, slots

    def largest(self, incoming: float, most: float) -> float:
        return incoming * largest_factor(self.step_size)


@constructor
def scale_by_schedule(step_size_fn: Any) -> scale:
    """Multiplies the updates by a schedule: `scale(step_size_fn)`.

    Args:
      step_size_fn: A schedule, or a function of the step count (0 at the first step) that returns the factor. Unlike
        `scale_by_learning_rate`, this transformation adds no minus sign: return negative factors for descent.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import gradtx as gx
      >>> gx.scale_by_schedule(gx.constant_schedule(0.5))
      scale(step_size=constant_schedule(value=0.5))

    Raises:
      TypeError: `step_size_fn` cannot be called.
    """
    if not callable(step_size_fn):
        raise TypeError(
            f"scale_by_schedule: step_size_fn must be a schedule or a function of the step count, "
            f"got {checks.shown(step_size_fn)}. For a constant factor use gx.scale."
        )
    return scale(step_size_fn)


class scale_by_learning_rate(Elementwise):
    """Multiplies the updates by minus the learning rate: the last transformation of most optimizers.

        u = -learning_rate * g

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      flip_sign: True to include the minus sign, for descent (default). False for ascent.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_learning_rate(gx.cosine_decay_schedule(0.1, 1000))
      >>> updates, _ = tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))
      >>> print(updates)
      [-0.1]
    """

    learning_rate: Hyper = hyper(ge=0)
    flip_sign: bool = flag(default=True, kw_only=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        rate = -self.learning_rate if self.flip_sign else self.learning_rate
        return g * rate, slots

    def largest(self, incoming: float, most: float) -> float:
        return incoming * largest_factor(self.learning_rate)


class set_to_zero(Elementwise):
    """Sets the updates to zero, so that the parameters do not change.

    Use it in `partition` for leaves that should not be trained; `freeze` does the same for the leaves of a mask.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.set_to_zero()
      >>> tx.update(jnp.array(3.0), tx.init(jnp.array(1.0)))[0]
      Array(0., dtype=float32)
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return mesh.full_like(g, 0), slots

    def largest(self, incoming: float, most: float) -> float:
        return 0.0
