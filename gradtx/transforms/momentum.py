"""Accumulated updates: the decaying sum (`trace`) and the moving average (`ema`).

    trace:  m_t = decay * m_(t-1) + (1 - dampening) * g_t,  m_1 = g_1     u = m_t, or g_t + decay * m_t (Nesterov)
    ema:    m_t = decay * m_(t-1) + (1 - decay) * g_t,      m_0 = 0       u = m_t / (1 - decay^t)

The trace is Polyak's heavy ball (1964); the Nesterov form is that of Sutskever, Martens, Dahl and
Hinton, 2013, "On the importance of initialization and momentum in deep learning". Dampening is
PyTorch's: the first buffer is the first gradient, undamped.
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
    """The steps taken, and the decaying sum."""

    trace: Array = per_param(dtype="accumulator_dtype")
    count: Array = counter()


class trace(Elementwise, state=TraceState):
    """Momentum: a decaying sum of the updates.

    `decay` lies in [0, 1], `dampening` (default 0) in [0, 1]. The sum is kept in `accumulator_dtype`,
    by default the parameter's dtype but at least float32. A sum that the dtype cannot hold
    overflows, as with `nesterov` near the largest number.

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
        """The weight of the new gradient: the first is not damped."""
        undamped = leaf.is_number(self.dampening) and self.dampening == 0
        return None if undamped else jnp.where(t == 1, 1.0, 1.0 - self.dampening), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        m = slots.trace * self.decay + (g if shared is None else g * shared)
        return (g + m * self.decay if self.nesterov else m), slots._replace(trace=m)


class EmaState(NamedTuple):
    """The steps taken, and the average before its correction.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    ema: Array = per_param(dtype="accumulator_dtype")
    weights: dict[str, Array] = average_weights(when="debias")


class ema(Elementwise, state=EmaState, corrected=("decay",)):
    """The exponential moving average of the updates, by default corrected for its start at zero.

    `decay` lies in [0, 1). The average is kept in `accumulator_dtype`, by default the parameter's
    dtype but at least float32.

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
