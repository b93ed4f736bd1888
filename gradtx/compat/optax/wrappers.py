"""Wrappers whose states or parameters have another form in optax."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import gradtx as gx
from gradtx import checks
from gradtx.compat.optax.forms import (
    Form,
    InForm,
    MechanicState,
    MonitorForm,
    MultiStepsState,
    SAMState,
    ScheduleFreeState,
)
from gradtx.compat.optax.spelled import spelled
from gradtx.core.composite import Wrapper
from gradtx.core.hyper import Hyper, HyperArg, Schedule, hyper
from gradtx.core.slots import child_state, counter
from gradtx.core.value import child, flag, integer
from gradtx.wrappers import accumulate as native_accumulate
from gradtx.wrappers import mechanize as native_mechanize
from gradtx.wrappers import sam as native_sam
from gradtx.wrappers import schedule_free as native_schedule_free

__all__ = [
    "MULTI_STEPS",
    "LookaheadParams",
    "LookaheadState",
    "lookahead",
    "mechanize",
    "monitor",
    "sam",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
]


class LookaheadState(NamedTuple):
    """State of `lookahead`: the state of the fast optimizer, and the steps since the slow parameters were updated."""

    fast_state: Any = child_state()
    steps_since_sync: Array = counter()


class LookaheadParams(NamedTuple):
    """The parameters of `lookahead`: `fast`, where gradients are computed, and `slow`, the result.

    >>> import gradtx.compat.optax as optax
    >>> optax.LookaheadParams.init_synced(1.0)
    LookaheadParams(fast=1.0, slow=1.0)
    """

    fast: Any
    slow: Any

    @classmethod
    def init_synced(cls, params: Any) -> LookaheadParams:
        """A pair of the same parameters."""
        return cls(fast=params, slow=params)


class _Lookahead(Wrapper, state=LookaheadState):
    """Lookahead with pairs of parameters, as optax has it."""

    sync_period: int = integer(ge=1)
    slow_step_size: Hyper = hyper(ge=0, le=1)
    reset_state: bool = flag(default=False)

    @property
    def reshapes(self) -> bool:
        return True  # the updates are a pair, the gradients are not

    def init(self, params: Any) -> LookaheadState:
        fast = params.fast if isinstance(params, LookaheadParams) else params
        return LookaheadState(self.inner.init(fast), jnp.zeros((), jnp.int32))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if not isinstance(params, LookaheadParams):
            raise TypeError(
                f"lookahead.update: params must be LookaheadParams, got {checks.shown(params)}. Make the pair by "
                "LookaheadParams.init_synced(params), and take gradients at params.fast."
            )
        updates, fast_state = self.inner_update(updates, state.fast_state, params.fast, extra)
        sync = state.steps_since_sync == self.sync_period - 1
        apart = jax.tree.map(lambda f, u, s: f + u - s, params.fast, updates, params.slow)
        part = self.at(state.steps_since_sync).slow_step_size
        slow = jax.tree.map(lambda d: jnp.where(sync, part * d, 0).astype(d.dtype), apart)
        fast = jax.tree.map(lambda u, d: jnp.where(sync, u - (1 - part) * d, u).astype(u.dtype), updates, apart)
        if self.reset_state:
            first = self.inner.init(params.fast)
            fast_state = jax.tree.map(lambda x, start: jnp.where(sync, start, x), fast_state, first)
        steps = (state.steps_since_sync + 1) % self.sync_period
        return LookaheadParams(fast=fast, slow=slow), LookaheadState(fast_state, steps)


_Lookahead.__name__ = "lookahead"


@spelled
def lookahead(fast_optimizer: Any, sync_period: int, slow_step_size: HyperArg, reset_state: bool = False) -> Any:
    """Lookahead on a pair of parameters: the slow ones follow the fast ones every `sync_period` steps.

    gradtx's own `lookahead` has plain parameters, and keeps the slow ones in the state.

    Args:
      fast_optimizer: The optimizer of the fast parameters.
      sync_period: Number of steps between two updates of the slow parameters.
      slow_step_size: How far the slow parameters move towards the fast ones. In [0, 1].
      reset_state: Whether to reset the fast optimizer's state after each of these updates. False by default.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> tx = optax.lookahead(optax.sgd(1.0), sync_period=1, slow_step_size=0.5)
    >>> params = optax.LookaheadParams.init_synced(jnp.array([4.0]))
    >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
    >>> print(optax.apply_updates(params, updates).slow)
    [3.5]
    """
    return _Lookahead(fast_optimizer, sync_period, slow_step_size, reset_state)


_MECHANIC = Form(MechanicState, native_mechanize.MechanicState, (), has_base=True)
_SAM = Form(SAMState, native_sam.SAMState, (("inner_state", "opt_state"),))
_SCHEDULE_FREE = Form(
    ScheduleFreeState, native_schedule_free.ScheduleFreeState, (("count", "step_count"),), has_base=True
)
MULTI_STEPS = Form(MultiStepsState, native_accumulate.MultiStepsState, (("inner_state", "inner_opt_state"),))


@spelled
def monitor(measures: Any) -> Any:
    """Keeps several measurements of the updates in the state, where `optax.tree.get(state, name)` finds them.

    Args:
      measures: A dict from name to a function of the updates.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> tx = optax.monitor({"norm": optax.tree.norm})
    >>> g = jnp.array([3.0, 4.0])
    >>> print(optax.tree.get(tx.update(g, tx.init(g))[1], "norm"))
    5.0
    """
    return InForm(gx.monitor(measures), MonitorForm(tuple(measures)))


@spelled
def mechanize(
    base_optimizer: Any,
    weight_decay: HyperArg = 1e-2,
    eps: HyperArg = 1e-8,
    s_init: HyperArg = 1e-6,
    num_betas: int = 6,
) -> Any:
    """`base_optimizer`, whose learning rate is tuned as it runs; its state has the base's inside.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> optax.contrib.mechanize(optax.sgd(1.0)).init(jnp.zeros(1)).base_optimizer_state
    (CountState(count=Array(0, dtype=int32)),)
    """
    made = gx.mechanize(base_optimizer, weight_decay, eps, s_init, num_betas)
    return InForm(made, _MECHANIC)


class _Ahead(Schedule):
    """A schedule one step ahead."""

    schedule: Any = child()

    def __call__(self, count: Any) -> Any:
        return self.schedule(count + 1)


def _weighted_ahead(tx: Any) -> InForm:
    """`schedule_free` of gradtx with optax's state, and its weights: that of a step is the next step's rate."""
    base, link = tx.links
    if isinstance(link.learning_rate, Schedule):
        link = link.replace(learning_rate=_Ahead(link.learning_rate))
    return InForm(gx.chain(base, link), _SCHEDULE_FREE)


@spelled
def schedule_free(
    base_optimizer: Any,
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
) -> Any:
    """`base_optimizer` with averaging in place of a decaying schedule; its state has the base's inside.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.contrib.schedule_free(optax.sgd(1.0), 1.0).init(jnp.ones(1)).z)
    [1.]
    """
    made = gx.schedule_free(base_optimizer, learning_rate, b1, weight_lr_power, state_dtype)
    return _weighted_ahead(made)


@spelled
def schedule_free_sgd(
    learning_rate: HyperArg = 1.0,
    warmup_steps: int | None = None,
    b1: HyperArg = 0.9,
    weight_decay: HyperArg | None = None,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
) -> Any:
    """Schedule-free gradient descent.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.contrib.schedule_free_sgd(0.1).init(jnp.ones(1)).z)
    [1.]
    """
    decay = 0.0 if weight_decay is None else weight_decay
    made = gx.schedule_free_sgd(learning_rate, warmup_steps, b1, decay, weight_lr_power, state_dtype)
    return _weighted_ahead(made)


@spelled
def schedule_free_adamw(
    learning_rate: HyperArg = 0.0025,
    warmup_steps: int | None = None,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
) -> Any:
    """Schedule-free AdamW.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> print(optax.contrib.schedule_free_adamw(0.1).init(jnp.ones(1)).z)
    [1.]
    """
    made = gx.schedule_free_adamw(learning_rate, warmup_steps, b1, b2, eps, weight_decay, weight_lr_power, state_dtype)
    return _weighted_ahead(made)


def schedule_free_eval_params(state: Any, params: Any) -> Any:
    """The average x, from anywhere in a nested state, and the parameters y that belong to it.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> params = jnp.ones(2)
    >>> state = optax.contrib.schedule_free_sgd().init(params)
    >>> print(optax.contrib.schedule_free_eval_params(state, params))
    [1. 1.]
    """

    def native(x: Any) -> Any:
        return _SCHEDULE_FREE.back(x)[1] if isinstance(x, ScheduleFreeState) else x

    found = jax.tree.map(native, state, is_leaf=lambda x: isinstance(x, ScheduleFreeState))
    return gx.schedule_free_eval_params(found, params)


@spelled
def sam(
    optimizer: Any,
    adv_optimizer: Any,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: Any = None,
) -> Any:
    """Sharpness-aware minimization, with optax's names in the state.

    >>> import gradtx.compat.optax as optax, jax.numpy as jnp
    >>> optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)).init(jnp.zeros(1)).opt_state
    (CountState(count=Array(0, dtype=int32)),)
    """
    return InForm(gx.sam(optimizer, adv_optimizer, sync_period, reset_state, opaque_mode, batch_axis_name), _SAM)
