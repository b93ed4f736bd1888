"""Grokfast: amplifies the slow part of the gradient.

    h_t = decay * h_(t-1) + (1 - decay) * g_t,   h_1 = g_1
    u_t = g_t + gain * h_t

Lee, Kang, Kim and Lee, 2024, "Grokfast: Accelerated Grokking by Amplifying Slow Gradients", the filter by a moving
average (EMA), started as in the authors' code. It comes before a method: `chain(grokfast(), adamw(1e-3))`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.core.value import dtype
from gradtx.types import Slots

__all__ = ["GrokfastState", "grokfast"]


class GrokfastState(NamedTuple):
    """The steps taken, and the moving average of the gradient."""

    count: Array = counter()
    ema: Array = per_param(dtype="accumulator_dtype")


class grokfast(Elementwise, state=GrokfastState):
    """Adds `gain` times the gradient's moving average to the gradient.

    Take it where a network has fitted its data and does not generalize yet. A sum that the dtype cannot hold overflows.

    Args:
      decay: Decay rate of the average; closer to 1 keeps slower parts alone. In [0, 1). The paper's alpha.
      gain: How much of the average is added (default 2). Not negative. The paper's lambda.
      accumulator_dtype: The dtype of the average. By default the parameter's, float32 at least.

    State: one array per parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.grokfast(decay=0.5, gain=2.0)
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (1.0, -1.0):
    ...     updates, state = tx.update(jnp.array([g]), state)
    ...     print(updates)
    [3.]
    [-1.]
    """

    decay: Hyper = hyper(default=0.98, ge=0, lt=1)
    gain: Hyper = hyper(default=2.0, ge=0)
    accumulator_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """The weight of the new gradient: the first is the average."""
        return jnp.where(t == 1, 1.0, 1.0 - self.decay), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        ema = slots.ema * (1 - shared) + g * shared
        return g + ema * self.gain, slots._replace(ema=ema)
