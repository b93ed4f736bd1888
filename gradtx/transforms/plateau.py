"""Reduces the step size when the loss has stopped improving.

Every `accumulation_size` steps the mean loss f of these steps is compared with b, the best mean loss so far:

    better     f < b - (rtol * |b| + atol)                   mode 'min'; f > b + (rtol * |b| + atol) for 'max'
    plateau    `patience` comparisons in a row without a better f
    then       scale = max(scale * factor, min_scale), and the next `cooldown` comparisons do not count

The algorithm is that of PyTorch's ReduceLROnPlateau and optax's reduce_on_plateau, except that the margin is relative
to |b|. The condition f < (1 - rtol) * b of these libraries counts an unchanged negative loss as an improvement.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Treewide
from gradtx.core.metrics import reports
from gradtx.core.slots import counter, per_tree
from gradtx.core.value import choice, integer
from gradtx.types import Slots

__all__ = ["ReduceLROnPlateauState", "reduce_on_plateau"]


@reports(lr_scale="scale")
class ReduceLROnPlateauState(NamedTuple):
    """The state of `reduce_on_plateau`: factor, best mean loss, counters, and the mean loss since the last comparison.

    The best mean loss is infinite before the first comparison.
    """

    scale: Array = per_tree(start=1.0, signed=False)
    best_value: Array = per_tree(start="worst")
    plateau_count: Array = counter()
    cooldown_count: Array = counter()
    count: Array = counter()
    avg_value: Array = per_tree()


class reduce_on_plateau(Treewide, state=ReduceLROnPlateauState, needs=("value",)):
    """Scales the updates by a factor that shrinks when the loss has stopped improving.

    Use it when the right time to lower the learning rate is not known in advance. Put it last in a chain and pass the
    loss to `update(..., value=loss)`. `gx.metrics(state)` reports the factor as `lr_scale`.

    Args:
      factor: Factor by which the scale of the updates is multiplied on a plateau (default 0.1). In (0, 1).
      patience: Number of comparisons in a row without an improvement after which the scale is reduced (default 10). At
        least 1.
      rtol: Smallest improvement that counts, as a fraction of the absolute value of the best loss (default 1e-4). Not
        negative.
      atol: Added to the smallest improvement that `rtol` gives (default 0). Not negative.
      cooldown: Number of comparisons after a reduction in which a missing improvement is not counted (default 0).
      accumulation_size: Number of steps whose losses are averaged for one comparison (default 1). At least 1. Use a
        larger number for noisy losses.
      min_scale: Lower bound on the scale (default 0). Not negative.
      mode: 'min' if a smaller value is better, as for a loss (default); 'max' if a larger value is better, as for an
        accuracy.

    Returns:
      A transformation whose `update` needs the extra argument `value`. State: six numbers (24 bytes).

    A loss that is NaN never counts as an improvement.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.reduce_on_plateau(factor=0.5, patience=2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for value in (-1.0, -2.0, -2.0, -2.0, -2.0):
      ...     updates, state = tx.update(jnp.ones(1), state, value=value)
      ...     print(updates)
      [1.]
      [1.]
      [1.]
      [0.5]
      [0.5]
    """

    factor: Hyper = hyper(default=0.1, gt=0, lt=1)
    patience: int = integer(default=10, ge=1)
    rtol: Hyper = hyper(default=1e-4, ge=0)
    atol: Hyper = hyper(default=0.0, ge=0)
    cooldown: int = integer(default=0)
    accumulation_size: int = integer(default=1, ge=1)
    min_scale: Hyper = hyper(default=0.0, ge=0)
    mode: str = choice(default="min", options=("min", "max"), kw_only=True)

    def worst(self, params: Any) -> float:
        """Returns the worst possible loss: every finite loss is better."""
        del params
        return math.inf if self.mode == "min" else -math.inf

    def at_step(self, t: Array, numbers: Any, *, value: Any) -> tuple[Any, Any]:
        place = (t - 1) % self.accumulation_size
        mean = numbers.avg_value
        mean = mean + (jnp.asarray(value, mean.dtype) - mean) / (place + 1)
        numbers = numbers._replace(avg_value=mean)
        compared = place == self.accumulation_size - 1
        numbers = jax.tree.map(lambda new, old: jnp.where(compared, new, old), self._compared(numbers), numbers)
        return numbers.scale, numbers

    def _compared(self, numbers: Any) -> Any:
        """Compares the mean loss with the best one, and returns the updated scalars of the state."""
        mean, best, cooldown = numbers.avg_value, numbers.best_value, numbers.cooldown_count
        sign = 1 if self.mode == "min" else -1
        some = jnp.where(jnp.isinf(best), 0, best)
        better = (sign * mean < sign * some - (self.rtol * jnp.abs(some) + self.atol)) | (
            jnp.isinf(best) & ~jnp.isnan(mean)
        )
        waiting = jnp.where(better | (cooldown > 0), 0, numbers.plateau_count + 1)
        reduced = waiting >= self.patience
        smaller = jnp.maximum(numbers.scale * self.factor, self.min_scale)
        return numbers._replace(
            scale=jnp.where(reduced, smaller, numbers.scale),
            best_value=jnp.where(better, mean, best),
            plateau_count=jnp.where(reduced, 0, waiting),
            cooldown_count=jnp.where(reduced, self.cooldown, jnp.maximum(cooldown - 1, 0)),
            avg_value=jnp.zeros_like(mean),
        )

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared, slots
