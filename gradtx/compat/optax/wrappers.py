"""Wrappers whose states or parameters have a different structure in optax than in gradtx."""

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
    """The state of the fast optimizer, and the steps since the last synchronization."""

    fast_state: Any = child_state()
    steps_since_sync: Array = counter()


class LookaheadParams(NamedTuple):
    """The fast parameters, at which gradients are taken, and the slow parameters, at which to evaluate the model.

    Attributes:
      fast: The parameters that the fast optimizer updates.
      slow: The slow parameters.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.LookaheadParams.init_synced(1.0)
      LookaheadParams(fast=1.0, slow=1.0)
    """

    fast: Any
    slow: Any

    @classmethod
    def init_synced(cls, params: Any) -> LookaheadParams:
        """Returns a pair in which the fast and the slow parameters are equal.

        Args:
          params: The initial parameters.
        """
        return cls(fast=params, slow=params)


class _Lookahead(Wrapper, state=LookaheadState):
    """Lookahead with pairs of parameters, as in optax."""

    sync_period: int = integer(ge=1)
    slow_step_size: Hyper = hyper(ge=0, le=1)
    reset_state: bool = flag(default=False)

    @property
    def reshapes(self) -> bool:
        return True  # the updates are a pair of trees, the gradients are one tree

    def init(self, params: Any) -> LookaheadState:
        fast = params.fast if isinstance(params, LookaheadParams) else params
        return LookaheadState(self.inner.init(fast), jnp.zeros((), jnp.int32))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if not isinstance(params, LookaheadParams):
            raise TypeError(
                f"lookahead.update: params must be LookaheadParams, got {checks.shown(params)}. Make the pair with "
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
    """Moves fast parameters back towards slow parameters every `sync_period` steps (Lookahead).

    The parameters are a pair, `LookaheadParams`. `gx.lookahead` has ordinary parameters instead, and keeps the slow
    parameters in the state.

    Args:
      fast_optimizer: The optimizer that takes the steps, such as `optax.adamw(1e-3)`.
      sync_period: Number of steps between two synchronizations. At least 1.
      slow_step_size: Fraction of the distance by which the slow parameters move towards the fast parameters. In [0, 1].
      reset_state: Whether to reinitialize the optimizer's state after each synchronization. Default False.

    Returns:
      A transformation whose `update` needs `params`, a `LookaheadParams`. State: a count, in addition to the state of
        `fast_optimizer`.

    Example:
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
      measures: A dict from a name to a function of the updates, or to a transformation whose updates are the
        measurement.

    Returns:
      A transformation that leaves the updates unchanged. State: the latest measurements.

    Example:
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
    """Tunes the learning rate of an optimizer during the run (Mechanic).

    As in optax, the state contains the state of `base_optimizer`.

    Args:
      base_optimizer: The optimizer to tune, such as `optax.adamw(1.0)`.
      weight_decay: Strength of the decay that steers the tuning (default 0.01). Not negative.
      eps: Added to the denominator for numerical stability. Positive; default 1e-8.
      s_init: Initial scale of the updates (default 1e-6). Positive.
      num_betas: Number of tuners, with the decay rates 0.9, 0.99 and so on (default 6). At least 1.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the state of `base_optimizer`.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> optax.contrib.mechanize(optax.sgd(1.0)).init(jnp.zeros(1)).base_optimizer_state
      (CountState(count=Array(0, dtype=int32)),)
    """
    made = gx.mechanize(base_optimizer, weight_decay, eps, s_init, num_betas)
    return InForm(made, _MECHANIC)


class _Ahead(Schedule):
    """A schedule that is one step ahead: it returns the value for the next step."""

    schedule: Any = child()

    def __call__(self, count: Any) -> Any:
        return self.schedule(count + 1)


def _weighted_ahead(tx: Any) -> InForm:
    """Returns gradtx's `schedule_free` with optax's state and averaging weights.

    In optax, the averaging weight of a step is computed from the learning rate of the next step.
    """
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
    """Replaces the decaying learning rate schedule and the momentum of an optimizer with averaging.

    Evaluate the model at `schedule_free_eval_params(state, params)`. As in optax, the state contains the state of
    `base_optimizer`.

    Args:
      base_optimizer: The optimizer without momentum, such as `optax.sgd(0.1)`.
      learning_rate: Learning rate of `base_optimizer`, a number or a schedule; it only sets the weights of the average.
        Not negative.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2). Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the state of `base_optimizer`.

    Example:
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

    Evaluate the model at `schedule_free_eval_params(state, params)`.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative; default 1.
      warmup_steps: Number of steps over which the learning rate rises linearly from 0. None by default, for no warm-up.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      weight_decay: Strength of the decay: `weight_decay * params` is added to the gradient. None by default, for no
        decay.
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2). Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
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

    Evaluate the model at `schedule_free_eval_params(state, params)`.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative; default 0.0025.
      warmup_steps: Number of steps over which the learning rate rises linearly from 0. None by default, for no warm-up.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      b2: Decay rate of the second moment (the moving average of the squared gradient); closer to 1 averages over more
        steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled weight decay: each step also moves a parameter towards zero by
        `learning_rate * weight_decay` of its value. Not negative; default 0 (no decay).
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2). Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes in float32).

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.contrib.schedule_free_adamw(0.1).init(jnp.ones(1)).z)
      [1.]
    """
    made = gx.schedule_free_adamw(learning_rate, warmup_steps, b1, b2, eps, weight_decay, weight_lr_power, state_dtype)
    return _weighted_ahead(made)


def schedule_free_eval_params(state: Any, params: Any) -> Any:
    """Returns the averaged parameters x of schedule-free learning, at which to evaluate the model.

    Args:
      state: A state that contains exactly one state of `schedule_free`, at any depth.
      params: The current parameters, that is, the parameters after the latest update.

    Returns:
      A tree like `params`, with the average.

    Example:
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
    """Steps with the gradient at a worst point nearby (sharpness-aware minimization), with optax's names in the state.

    Args:
      optimizer: The optimizer of the parameters, such as `optax.adamw(1e-3)`.
      adv_optimizer: The optimizer that climbs. Pass an ordinary optimizer; its updates are negated. If it normalizes
        the gradient, its learning rate is the radius of the neighborhood.
      sync_period: Number of gradients for one step of `optimizer` (default 2: one step up). At least 1.
      reset_state: Whether to reinitialize the state of `adv_optimizer` after each step of `optimizer`. Default True.
      opaque_mode: Whether one call of `update` makes all climbing steps and the step of `optimizer`; it then needs the
        extra argument `grad_fn(params, i)`. Default False.
      batch_axis_name: Name of the mapped axis over which to average the gradients in opaque mode. None by default.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32; no array in
        opaque mode), in addition to the states of both optimizers.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)).init(jnp.zeros(1)).opt_state
      (CountState(count=Array(0, dtype=int32)),)
    """
    return InForm(gx.sam(optimizer, adv_optimizer, sync_period, reset_state, opaque_mode, batch_axis_name), _SAM)
