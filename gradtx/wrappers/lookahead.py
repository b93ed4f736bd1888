"""Lookahead: every k steps, moves the parameters back towards slowly changing weights.

Every `sync_period` steps the slow weights phi move towards the parameters theta, and theta is set to phi:

    phi <- phi + slow_step_size * (theta - phi),    theta <- phi

Zhang, Lucas, Hinton and Ba, 2019, "Lookahead Optimizer: k steps forward, 1 step back". The slow weights are kept in the
state, so the parameters need no special container (unlike in optax).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import checks
from gradtx.core.branch import branch
from gradtx.core.chain import chain
from gradtx.core.composite import Wrapper
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.packed import repacked
from gradtx.core.slots import PARAM, child_state, counter, per_param
from gradtx.core.state import counted
from gradtx.core.value import integer

__all__ = ["LookaheadState", "ResetEveryState", "lookahead", "reset_state_every", "scale_by_lookahead"]


class LookaheadState(NamedTuple):
    """The number of steps, and the slow weights."""

    count: Array = counter()
    slow: Array = per_param(start=PARAM)


class scale_by_lookahead(Elementwise, state=LookaheadState, needs=("params",)):
    """Moves the parameters back towards slow weights every `sync_period` steps; `lookahead` adds it to an optimizer.

    Put it after the learning rate.

    Args:
      sync_period: Number of steps between two synchronizations with the slow weights. At least 1.
      slow_step_size: Fraction of the distance by which the slow weights move towards the parameters. In [0, 1].

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.scale_by_lookahead(1, 0.5))
      >>> params = jnp.ones(1)
      >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
      >>> print(updates)
      [-0.5]
    """

    sync_period: int = integer(ge=1)
    slow_step_size: Hyper = hyper(ge=0, le=1)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return t % self.sync_period == 0, numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        synchronized = slots.slow * (1 - self.slow_step_size) + (p + g) * self.slow_step_size
        slow = jnp.where(shared, synchronized, slots.slow)
        return jnp.where(shared, slow - p, g), slots._replace(slow=slow)


class ResetEveryState(NamedTuple):
    """The number of steps, and the inner state."""

    count: Array = counter()
    inner_state: Any = child_state()


class reset_state_every(Wrapper, state=ResetEveryState, needs=("params",)):
    """Reinitializes the state of `inner` after every `period` steps.

    The new state is `inner.init(params)` with the current parameters.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      period: Number of steps after which the state is reinitialized. At least 1.

    Returns:
      A transformation whose `update` needs `params`. State: a step count, in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.reset_state_every(gx.trace(1.0), 2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(4):
      ...     updates, state = tx.update(jnp.ones(1), state, jnp.zeros(1))
      ...     print(updates)
      [1.]
      [2.]
      [1.]
      [2.]
    """

    period: int = integer(ge=1)

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        ended = (state.count > 0) & (state.count % self.period == 0)
        old = state.inner_state
        inner_state = branch("reset_state_every", ended, lambda: repacked(self.inner.init(params), old), lambda: old)
        updates, inner_state = self.inner_update(updates, inner_state, params, extra)
        return updates, ResetEveryState(count=counted(state.count), inner_state=inner_state)


@constructor
def lookahead(fast_optimizer: Any, sync_period: int, slow_step_size: HyperArg, reset_state: bool = False) -> chain:
    """Moves the parameters back towards slow weights every `sync_period` steps (Lookahead).

    Lookahead makes an optimizer less sensitive to the learning rate, and makes the steps less noisy.

        phi <- phi + slow_step_size * (p - phi),    p <- phi      every sync_period steps

    Args:
      fast_optimizer: The optimizer that takes the steps, such as `gx.adamw(1e-3)`.
      sync_period: Number of steps between two synchronizations with the slow weights, often 5 or 6. At least 1.
      slow_step_size: Fraction of the distance by which the slow weights move towards the parameters, often 0.5. In [0,
        1].
      reset_state: Whether to reinitialize the optimizer's state after each synchronization. Default False.

    Returns:
      A transformation whose `update` needs `params`, the ordinary parameters (optax needs a `LookaheadParams` instead).
        State: one array per parameter (4 bytes in float32), in addition to the state of `fast_optimizer`.

    References:
      Zhang, Lucas, Hinton and Ba, 2019, "Lookahead Optimizer: k steps forward, 1 step back".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.lookahead(gx.sgd(1.0), sync_period=2, slow_step_size=0.5)
      >>> params = jnp.array([4.0])
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = gx.apply_updates(params, updates)
      ...     print(params)
      [3.]
      [3.]
    """
    reset = checks.flag("lookahead", "reset_state", reset_state)
    inner = reset_state_every(fast_optimizer, sync_period) if reset else fast_optimizer
    return chain(inner, scale_by_lookahead(sync_period, slow_step_size))
