"""Grokfast: amplifies the slowly varying part of the gradient.

    h_t = decay * h_(t-1) + (1 - decay) * g_t,   h_1 = g_1
    u_t = g_t + gain * h_t

Lee, Kang, Kim and Lee, 2024, "Grokfast: Accelerated Grokking by Amplifying Slow Gradients". The paper proposes several
filters; this is the one with an exponential moving average (EMA). As in the authors' code, the average starts at the
first gradient.
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
    """The state of `grokfast`: the number of steps, and the moving average of the gradient."""

    count: Array = counter()
    ema: Array = per_param(dtype="accumulator_dtype")


class grokfast(Elementwise, state=GrokfastState):
    """Adds `gain` times the gradient's moving average to the gradient, to amplify its slowly varying component.

    Use it when a network already fits its training data but does not generalize yet ("grokking"). Put it before the
    optimizer: `chain(grokfast(), adamw(1e-3))`.

        h <- decay * h + (1 - decay) * g,     u = g + gain * h

    Args:
      decay: Decay rate of the moving average (default 0.98); a value closer to 1 keeps only slower changes. Called
        alpha in the paper. In [0, 1).
      gain: Factor by which the average is multiplied before it is added (default 2). Called lambda in the paper. Not
        negative.
      accumulator_dtype: Dtype in which the average is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32). An update that is too large for
      its dtype overflows.

    References:
      Lee, Kang, Kim and Lee, 2024, "Grokfast: Accelerated Grokking by Amplifying Slow Gradients".

    Example:
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
        """Returns the averaging weight of the new gradient, which is 1 at the first step."""
        return jnp.where(t == 1, 1.0, 1.0 - self.decay), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        ema = slots.ema * (1 - shared) + g * shared
        return g + ema * self.gain, slots._replace(ema=ema)
