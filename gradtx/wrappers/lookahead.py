"""Lookahead: k steps forward, one step back.

Every `sync_period` steps the slow weights phi follow the parameters theta, which go on from there:

    phi <- phi + slow_step_size * (theta - phi),    theta <- phi

(Zhang, Lucas, Hinton and Ba, 2019, "Lookahead Optimizer: k steps forward, 1 step back"). The parameters are plain; the
slow weights are in the state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.branch import branch
from gradtx.core.chain import chain
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.state import Like, counted
from gradtx.core.value import integer
from gradtx.core.wrapper import Wrapper

__all__ = ["LookaheadState", "ResetEveryState", "lookahead", "reset_every", "sync_slow_weights"]


class LookaheadState(NamedTuple):
    """The steps taken, and the slow weights."""

    count: Array
    slow: Like


class sync_slow_weights(Elementwise, state=LookaheadState, needs=("params",)):
    """The link of `lookahead`: on every `sync_period`-th step the update leads to the slow weights.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.sync_slow_weights(1, 0.5))
    >>> params = jnp.ones(1)
    >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
    >>> print(updates)
    [-0.5]
    """

    sync_period: int = integer(ge=1)
    slow_step_size: Hyper = hyper(ge=0, le=1)

    def init_leaf(self, p: Array) -> tuple[Array]:
        return (leaf.copy(p),)

    def at_step(self, t: Array) -> Array:
        return t % self.sync_period == 0

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        (slow,) = slots
        slow = jnp.where(shared, slow * (1 - self.slow_step_size) + (p + g) * self.slow_step_size, slow)
        return jnp.where(shared, slow - p, g), (slow,)


class ResetEveryState(NamedTuple):
    """The steps taken, and the inner state."""

    count: Array
    inner_state: Any


class reset_every(Wrapper, state=ResetEveryState):
    """`inner`, whose state begins anew after every `period` steps, at the parameters of that time.

    `update` needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.reset_every(gx.trace(1.0), 2)
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

    def init(self, params: Any) -> ResetEveryState:
        return ResetEveryState(jnp.zeros((), jnp.int32), self.inner.init(params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._begin(state, extra)
        if jax.tree.leaves(updates):
            checks.needed("reset_every", params=params)
        checks.trees("reset_every", updates, params)
        ended = (state.count > 0) & (state.count % self.period == 0)
        inner_state = branch("reset_every", ended, lambda: self.inner.init(params), lambda: state.inner_state)
        updates, inner_state = self._inner_update(updates, inner_state, params, extra)
        return updates, ResetEveryState(counted(state.count), inner_state)


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
    inner = reset_every(fast_optimizer, sync_period) if reset else fast_optimizer
    return chain(inner, sync_slow_weights(sync_period, slow_step_size))
