"""Schedule-free learning: averaging instead of a learning rate schedule.

A base method takes steps u_t from z. Its gradient is taken at y, a point between z and the average x:

    y_t     = (1 - b1) z_t + b1 x_t                         the parameters, where gradients are taken
    z_(t+1) = z_t + u_t(y_t)
    x_(t+1) = (1 - c_t) x_t + c_t z_(t+1)                   c_t = w_t / (w_0 + ... + w_t)
    w_t     = max(eta_0, ..., eta_t)^weight_lr_power

Defazio et al., 2024, "The Road Less Scheduled". Evaluate the model at x. Only z is stored, because x follows from y and
z.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, Limits, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.metrics import only
from gradtx.core.packed import unpacked
from gradtx.core.slots import PARAM, counter, per_param, per_tree
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.rmsprop import scale_by_rms
from gradtx.schedules.warmup import warmup_constant_schedule
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Params, Slots, State

__all__ = [
    "ScheduleFreeState",
    "scale_by_schedule_free",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
]


class ScheduleFreeState(NamedTuple):
    """The number of steps, the base method's iterate z, and the scalars of the average.

    `b1` is the value of `b1` at the latest step, `weight_sum` the sum of the averaging weights, `max_lr` the largest
    learning rate so far.
    """

    count: Array = counter()
    z: Array = per_param(start=PARAM, dtype="state_dtype")
    b1: Array = per_tree(start="b1", signed=False)
    weight_sum: Array = per_tree(signed=False)
    max_lr: Array = per_tree(signed=False)


class scale_by_schedule_free(Elementwise, state=ScheduleFreeState, needs=("params",)):
    """Averages the iterates of a base method (schedule-free learning); `schedule_free` adds it to the base method.

    Put it after the learning rate of the base method.

    Args:
      learning_rate: Learning rate of the base method, a number or a schedule; it only sets the weights of the average.
        Not negative.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2), so that steps of a
        warm-up count less. Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.scale_by_schedule_free(1.0))
      >>> params = jnp.ones(1)
      >>> updates, state = tx.update(jnp.ones(1), tx.init(params), params)
      >>> print(updates)
      [-1.]
    """

    learning_rate: Hyper = hyper(ge=0)
    b1: Hyper = hyper(default=0.9, gt=0, le=1)
    weight_lr_power: Hyper = hyper(default=2.0, ge=0)
    state_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        max_lr = jnp.maximum(numbers.max_lr, self.learning_rate)
        weight = jnp.where(max_lr > 0, jnp.where(max_lr > 0, max_lr, 1) ** self.weight_lr_power, 0)
        total = numbers.weight_sum + weight
        shared = Shared(share=leaf.ratio(weight, total), b1=numbers.b1)
        return shared, numbers._replace(b1=jnp.asarray(self.b1), weight_sum=total, max_lr=max_lr)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        c, b1, z = shared.share, shared.b1, slots.z + g
        # y_(t+1) - y_t is computed from the changes of x and z, so that the parameters' rounding loses no small change.
        # Since z - y = b1 (z - x), both terms are multiplied before they are added, which avoids overflow.
        of_distance, of_step = (self.b1 * c - (self.b1 - b1)) / b1, self.b1 * c + (1 - self.b1)
        # z - slots.z is the change of z after rounding. It replaces g, so that memory need not hold both g and z.
        return of_distance * (slots.z - p) + of_step * (z - slots.z), slots._replace(z=z)


def _average(y: Array, z: Array, b1: Array) -> Array:
    return (y - (1 - b1) * z) / b1


@constructor
def schedule_free(
    base_optimizer: Any,
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
) -> chain:
    """Replaces the decaying learning rate schedule and the momentum of an optimizer with averaging.

    Use it if the length of the run is not known in advance. Choose a constant learning rate, with or without a warm-up,
    and a base optimizer without momentum. To evaluate or export the model, use `schedule_free_eval_params(state,
    params)` as its parameters.

    Args:
      base_optimizer: The optimizer without momentum, such as `gx.sgd(0.1)`.
      learning_rate: Learning rate of `base_optimizer`, a number or a schedule, with its warm-up; it only sets the
        weights of the average. Not negative.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2), so that steps of a
        warm-up count less. Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32), in addition
        to the state of `base_optimizer`.

    References:
      Defazio et al., 2024, "The Road Less Scheduled".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.schedule_free(gx.sgd(1.0), 1.0)
      >>> params = jnp.array([4.0])
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state, params)
      ...     params = gx.apply_updates(params, updates)
      >>> print(gx.schedule_free_eval_params(state, params))
      [2.5]
    """
    return chain(base_optimizer, scale_by_schedule_free(learning_rate, b1, weight_lr_power, state_dtype))


def schedule_free_eval_params(state: State, params: Params) -> Any:
    """Returns the averaged parameters x of schedule-free learning, at which to evaluate the model.

    Args:
      state: A state that contains exactly one state of `schedule_free`, at any depth.
      params: The current parameters, that is, the parameters after the latest update.

    Returns:
      A tree like `params`, with the average.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> params = jnp.ones(2)
      >>> print(gx.schedule_free_eval_params(gx.schedule_free_sgd().init(params), params))
      [1. 1.]

    Raises:
      ValueError: The state contains no state of `schedule_free`, or several.
    """
    advice = "Pass the state that tx.init or tx.update of gx.schedule_free returned, or a state that contains it."
    part = only("schedule_free_eval_params", state, ScheduleFreeState, "schedule_free", advice)
    return jax.tree.map(
        lambda y, z: leaf.narrow(_average(leaf.widen(jnp.asarray(y)), leaf.widen(z), part.b1), jnp.result_type(y)),
        params,
        unpacked(part.z),
    )


def _warmed_up(who: str, learning_rate: HyperArg, warmup_steps: int | None) -> HyperArg:
    if not warmup_steps:
        return learning_rate
    peak = Limits(ge=0).check(who, "learning_rate with warmup_steps", learning_rate, schedules=False)
    return warmup_constant_schedule(0.0, peak, warmup_steps)


@constructor
def schedule_free_sgd(
    learning_rate: HyperArg = 1.0,
    warmup_steps: int | None = None,
    b1: HyperArg = 0.9,
    weight_decay: HyperArg = 0.0,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
    mask: Mask = None,
) -> chain:
    """Schedule-free gradient descent.

    Evaluate the model at `schedule_free_eval_params(state, params)`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative; default 1. With
        `warmup_steps` a number.
      warmup_steps: Number of steps over which the learning rate rises linearly from 0. None by default, for no warm-up.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      weight_decay: Strength of the decay: `weight_decay * params` is added to the gradient (default 0). Not negative.
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2), so that steps of a
        warm-up count less. Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes in float32).

    References:
      Defazio et al., 2024, "The Road Less Scheduled".

    Example:
      >>> import gradtx as gx
      >>> print(type(gx.schedule_free_sgd(0.1, warmup_steps=100)).__name__)
      chain
    """
    rate = _warmed_up("schedule_free_sgd", learning_rate, warmup_steps)
    base = chain(add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate))
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


@constructor
def schedule_free_adamw(
    learning_rate: HyperArg = 0.0025,
    warmup_steps: int | None = None,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    weight_lr_power: HyperArg = 2.0,
    state_dtype: Any = None,
    mask: Mask = None,
) -> chain:
    """Schedule-free AdamW: Adam's scaling and decoupled weight decay, with averaging instead of momentum.

    Use it instead of `adamw` if the length of the run is not known in advance. A warm-up helps. Evaluate the model at
    `schedule_free_eval_params(state, params)`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative; default 0.0025.
        With `warmup_steps` a number.
      warmup_steps: Number of steps over which the learning rate rises linearly from 0. None by default, for no warm-up.
      b1: Weight of the average in the point where gradients are taken; plays the role of momentum (default 0.9). In (0,
        1].
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      weight_lr_power: Exponent of the learning rate in the weights of the average (default 2), so that steps of a
        warm-up count less. Not negative.
      state_dtype: Dtype in which z is stored; by default the parameter's dtype, but at least float32.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes in float32).

    References:
      Defazio et al., 2024, "The Road Less Scheduled".

    Example:
      >>> import gradtx as gx
      >>> print(type(gx.schedule_free_adamw(2.5e-3)).__name__)
      chain
    """
    rate = _warmed_up("schedule_free_adamw", learning_rate, warmup_steps)
    decay = scale_by_rms.check_field("decay", b2, who="schedule_free_adamw", name="b2")
    base = chain(
        scale_by_rms(decay, eps, eps_in_sqrt=False, bias_correction=True),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(rate),
    )
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)
