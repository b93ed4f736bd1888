"""A factor that shrinks when the loss has stopped improving.

Every `accumulation_size` steps the mean loss f is compared with the best so far, b:

    better     f < b - (rtol * |b| + atol)                   mode 'min'; f > b + (rtol * |b| + atol) for 'max'
    plateau    `patience` comparisons in a row without one that is better
    then       scale = max(scale * factor, min_scale), and for `cooldown` comparisons none counts

As PyTorch's ReduceLROnPlateau and optax's reduce_on_plateau, but with the distance relative to |b|: theirs,
f < (1 - rtol) * b, takes any standstill below zero for an improvement.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Treewide
from gradtx.core.state import Once
from gradtx.core.value import choice, integer

__all__ = ["ReduceLROnPlateauState", "reduce_on_plateau"]


class ReduceLROnPlateauState(NamedTuple):
    """The steps taken, the factor, the best mean loss (infinite at first), the counters, and the mean loss since."""

    count: Array
    scale: Once
    best_value: Once
    plateau_count: Once
    cooldown_count: Once
    avg_value: Once


class reduce_on_plateau(Treewide, state=ReduceLROnPlateauState, needs=("value",)):
    """Scales the updates by a factor that shrinks on a plateau; `update` needs `value`, the loss.

    `factor` lies in (0, 1), `rtol` (1e-4), `atol` (0) and `min_scale` (0) are not negative; `patience` (10) and
    `accumulation_size` (1) are at least 1, `cooldown` (0) at least 0. Put it last in a chain. A loss that is not a
    number is never better.

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

    def init_once(self, params: Any) -> tuple[Array, ...]:
        worst = jnp.inf if self.mode == "min" else -jnp.inf
        zero = jnp.zeros((), jnp.int32)
        return *(tree.number(params, x) for x in (1.0, worst)), zero, zero + 0, tree.number(params, 0.0)

    def measure(
        self, updates: Any, slots: Any, once: Any, params: Any, t: Array, *, value: Any
    ) -> tuple[Array, tuple[Array, ...]]:
        scale, best, plateau, cooldown, mean = once
        place = (t - 1) % self.accumulation_size
        mean = mean + (jnp.asarray(value, mean.dtype) - mean) / (place + 1)
        compared = place == self.accumulation_size - 1

        sign = 1 if self.mode == "min" else -1
        some = jnp.where(jnp.isinf(best), 0, best)
        better = (sign * mean < sign * some - (self.rtol * jnp.abs(some) + self.atol)) | (
            jnp.isinf(best) & ~jnp.isnan(mean)
        )
        waiting = jnp.where(better | (cooldown > 0), 0, plateau + 1)
        reduced = waiting >= self.patience
        new = (
            jnp.where(reduced, jnp.maximum(scale * self.factor, self.min_scale), scale),
            jnp.where(better, mean, best),
            jnp.where(reduced, 0, waiting),
            jnp.where(reduced, self.cooldown, jnp.maximum(cooldown - 1, 0)),
            jnp.zeros_like(mean),
        )
        old = (*once[:4], mean)
        state = tuple(jnp.where(compared, a, b) for a, b in zip(new, old, strict=True))
        return state[0], state

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared, slots
