"""Momentum: the decaying sum of the updates (`trace`) and their moving average (`ema`).

    trace:  m_t = decay * m_(t-1) + (1 - dampening) * g_t,  m_1 = g_1     u = m_t, or g_t + decay * m_t (Nesterov)
    ema:    m_t = decay * m_(t-1) + (1 - decay) * g_t,      m_0 = 0       u = m_t / (1 - decay^t)

The trace is Polyak's heavy ball (1964). The Nesterov form follows Sutskever, Martens, Dahl and Hinton, 2013, "On the
importance of initialization and momentum in deep learning". Dampening works as in PyTorch: the first gradient is not
multiplied by 1 - dampening.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import dtype, flag
from gradtx.types import Slots

__all__ = ["EmaState", "TraceState", "ema", "trace"]


class TraceState(NamedTuple):
    """The state of `trace`: the number of steps, and the decaying sum of the updates."""

    trace: Array = per_param(dtype="accumulator_dtype")
    count: Array = counter()


class trace(Elementwise, state=TraceState):
    """Replaces the updates by their decaying sum: momentum.

    Momentum smooths noisy gradients and takes larger steps in directions in which successive gradients agree.
    `sgd(learning_rate, momentum=0.9)` uses this transformation. If the gradient is constant, the sum approaches 1 / (1
    - decay) times the gradient; `ema` returns an average instead of a sum.

        m <- decay * m + (1 - dampening) * g,     u = m     (if nesterov: u = g + decay * m)

    Args:
      decay: Factor by which the previous sum is multiplied, often 0.9; a value closer to 1 sums over more steps. In
        [0, 1].
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      accumulator_dtype: Dtype in which the sum is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      dampening: Each gradient except the first is multiplied by 1 - dampening before it is added (default 0). In
        [0, 1].

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32). A sum that is too large for its
      dtype overflows.

    References:
      Sutskever, Martens, Dahl and Hinton, 2013, "On the importance of initialization and momentum in deep learning".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.trace(0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.ones(1), state)
      >>> print(updates)
      [1.75]
    """

    decay: Hyper = hyper(ge=0, le=1)
    nesterov: bool = flag(default=False)
    accumulator_dtype: Any = dtype(default=None)
    dampening: Hyper = hyper(default=0.0, ge=0, le=1, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Returns the factor of the new gradient; the first gradient is not damped."""
        undamped = leaf.is_number(self.dampening) and self.dampening == 0
        return None if undamped else jnp.where(t == 1, 1.0, 1.0 - self.dampening), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        m = slots.trace * self.decay + (g if shared is None else g * shared)
        return (g + m * self.decay if self.nesterov else m), slots._replace(trace=m)


class EmaState(NamedTuple):
    """The state of `ema`: the number of steps, and the moving average before its start at zero is corrected.

    `weights` holds the sum of the averaging weights if `decay` is a schedule.
    """

    count: Array = counter()
    ema: Array = per_param(dtype="accumulator_dtype")
    weights: dict[str, Array] = average_weights(when="debias")


class ema(Elementwise, state=EmaState, corrected=("decay",)):
    """Replaces the updates by their exponential moving average.

        m <- decay * m + (1 - decay) * g,     u = m / (1 - decay^t)

    The division corrects the average for its start at zero. The correction is also exact if `decay` is a schedule.

    Args:
      decay: Decay rate of the moving average; a value closer to 1 averages over more steps. In [0, 1).
      debias: Whether to correct the average for its start at zero (default True). Without the correction the first
        updates are small.
      accumulator_dtype: Dtype in which the average is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32).

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.ema(0.9)
      >>> updates, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
      >>> print(updates.round(3), state.ema)
      [2.] [0.2]
    """

    decay: Hyper = hyper(ge=0, lt=1)
    debias: bool = flag(default=True)
    accumulator_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return (self.weight("decay", t, numbers), self.weighed(numbers)) if self.debias else (1, numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        m = leaf.moment(slots.ema, g, self.decay)
        return m / shared, slots._replace(ema=m)
