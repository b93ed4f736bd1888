"""Lookahead: k steps forward, one step back.

Every `sync_period` steps the slow weights phi follow the parameters theta, which go on from there:

    phi <- phi + slow_step_size * (theta - phi),    theta <- phi

(Zhang, Lucas, Hinton and Ba, 2019, "Lookahead Optimizer: k steps forward, 1 step back"). The parameters are plain; the
slow weights are in the state.
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
    """The steps taken, and the slow weights."""

    count: Array = counter()
    slow: Array = per_param(start=PARAM)


class scale_by_lookahead(Elementwise, state=LookaheadState, needs=("params",)):
    """The link of `lookahead`: on every `sync_period`-th step the update leads to the slow weights.

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
        drawn_back = slots.slow * (1 - self.slow_step_size) + (p + g) * self.slow_step_size
        slow = jnp.where(shared, drawn_back, slots.slow)
        return jnp.where(shared, slow - p, g), slots._replace(slow=slow)


class ResetEveryState(NamedTuple):
    """The steps taken, and the inner state."""

    count: Array = counter()
    inner_state: Any = child_state()


class reset_state_every(Wrapper, state=ResetEveryState, needs=("params",)):
    """`inner`, whose state begins anew after every `period` steps, at the parameters of that time.

    `update` needs params.

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
    """`fast_optimizer`, whose parameters are drawn back to slow weights every `sync_period` steps.

    `slow_step_size` lies in [0, 1]. With `reset_state` the optimizer's state begins anew after each. `update` needs
    params, which are plain ones.

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
