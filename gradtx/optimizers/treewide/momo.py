"""MoMo: momentum with the step size at which a linear model of the loss reaches the lower bound on the loss.

    d_t = beta * d_(t-1) + (1 - beta) * g_t                  d_1 = g_1, f_1 = value_1, gamma_1 = <g_1, x_1>
    f_t = beta * f_(t-1) + (1 - beta) * value_t
    gamma_t = beta * gamma_(t-1) + (1 - beta) * <g_t, x_t>
    h_t = (1 + eta_t * weight_decay) * (f_t - lb_t - gamma_t) + <d_t, x_t>
    x_(t+1) = x_t / (1 + eta_t * weight_decay) - min(eta_t, max(h_t, 0) / |d_t|^2) * d_t

Schaipp et al., 2023, "MoMo: Momentum Models for Adaptive Learning Rates", algorithm 1; as in the authors' code, only
x_t is divided by 1 + eta_t * weight_decay. With `adapt_lower_bound`, lb_t is estimated (algorithm 3). MoMo-Adam is
algorithm 2, in `momo_adam.py`. A step whose value is infinite or NaN is skipped: the update is zero, and the averages
stay unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.mask import selection
from gradtx.core.metrics import reports
from gradtx.core.skipping import or_one_more_skipped
from gradtx.core.slots import counter, per_param, per_tree
from gradtx.core.value import flag
from gradtx.types import Mask, Params, Slots, Updates

__all__ = ["MomoState", "momo", "scale_by_momo"]


@reports("skipped")
class MomoState(NamedTuple):
    """The state of `scale_by_momo`.

    `exp_avg`, `barf`, `gamma`: the averages of the gradient, the loss and <g, x>. `lb`: the lower bound. `count`: the
    number of steps. `skipped`: the number of steps whose value was infinite or NaN.
    """

    exp_avg: Array = per_param()
    barf: Array = per_tree()
    gamma: Array = per_tree()
    lb: Array = per_tree(start="lower_bound")
    count: Array = counter()
    skipped: Array = counter()


class scale_by_momo(Treewide, state=MomoState, needs=("params", "value")):
    """Applies momentum with a step size that is computed from the loss and a lower bound on the loss.

    This is the transformation that `momo` uses. Do not add `scale_by_learning_rate` after it, because the update
    already includes the step size and the minus sign. The formula is in the module's docstring. A step whose `value` is
    infinite or NaN is skipped: the update is zero. `gx.metrics(state)` counts such steps as `skipped`.

    Args:
      learning_rate: Largest step size: a number, or a schedule (a function of the step count). Not negative; default 1.
      beta: Decay rate of the averages of gradient and loss; a value closer to 1 averages over more steps. In [0, 1);
        default 0.9.
      lower_bound: Lower bound on the loss; 0 is right for most losses, and a bound close to the lowest loss that
        training can reach gives better step sizes. Default 0.
      weight_decay: Strength of the weight decay: each step also divides the parameters by
        `1 + learning_rate * weight_decay`. Not negative; default 0.
      adapt_lower_bound: Whether to estimate the lower bound of the loss during training, starting from `lower_bound`.
        Default False.
      decay_mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the
        structure of the parameters, or a function that takes the parameters and returns such a tree; by default all
        parameters, although biases and norm scales are usually left out.

    State: one array per parameter (4 bytes per entry in float32). `update` needs `params` and `value`, the loss.

    Reference: Schaipp et al., 2023, "MoMo: Momentum Models for Adaptive Learning Rates", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_momo(10.0)
    >>> p = g = jnp.array([2.0, 0.0])  # the gradient of |p|^2 / 2
    >>> print(tx.update(g, tx.init(p), p, value=2.0)[0])  # half way: a linear model reaches 0 there
    [-1. -0.]
    """

    learning_rate: Hyper = hyper(default=1.0, ge=0)
    beta: Hyper = hyper(default=0.9, ge=0, lt=1)
    lower_bound: Hyper = hyper(default=0.0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    adapt_lower_bound: bool = flag(default=False)
    decay_mask: Any = selection(default=None)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, *, value: Any
    ) -> tuple[Any, Any]:
        value = jnp.asarray(value, numbers.barf.dtype)
        lb, beta = numbers.lb, jnp.where(t - numbers.skipped == 1, 0, self.beta)
        d = jax.tree.map(lambda d, g: leaf.moment(d, g, beta), slots.exp_avg, updates)
        average = leaf.moment(numbers.barf, value, beta)
        inner = leaf.moment(numbers.gamma, tree.real_vdot(updates, params), beta)
        square, along = tree.norm_sq(d), tree.real_vdot(d, params)
        grown = 1 + self.learning_rate * self.weight_decay
        if self.adapt_lower_bound:
            reachable = grown * (average - inner) + along
            lb = jnp.where(reachable < grown * lb, jnp.maximum(reachable / (2 * grown), self.lower_bound), lb)
        rise = jnp.maximum(grown * (average - lb - inner) + along, 0)
        rate = self.learning_rate
        step = leaf.ratio(rate * rise, jnp.maximum(rate * square, rise))  # min(rate, rise / square)
        if self.adapt_lower_bound:
            lb = jnp.maximum(average + along - inner - 0.5 * step * square, self.lower_bound)
        shrink = self.learning_rate * self.weight_decay / grown
        new, good = numbers._replace(barf=average, gamma=inner, lb=lb), jnp.isfinite(value)
        shared = Shared(good=good, beta=beta, step=jnp.where(good, step, 0), shrink=jnp.where(good, shrink, 0))
        return shared, or_one_more_skipped(good, new, numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, decay_mask: bool) -> tuple[Array, Any]:
        shrink = shared.shrink if decay_mask else 0
        d = jnp.where(shared.good, leaf.moment(slots.exp_avg, g, shared.beta), slots.exp_avg)
        return -p * shrink - d * shared.step, slots._replace(exp_avg=d)


@constructor
def momo(
    learning_rate: HyperArg = 1.0,
    beta: HyperArg = 0.9,
    lower_bound: HyperArg = 0.0,
    weight_decay: HyperArg = 0.0,
    adapt_lower_bound: bool = False,
    mask: Mask = None,
) -> chain:
    """Runs MoMo: momentum with a step size that is computed from the loss and a lower bound on the loss.

    Use it when you know a lower bound on the loss, often 0. Then `learning_rate` is only the largest step size and
    needs little tuning. Call `tx.update(grads, state, params, value=loss)` (Schaipp et al., 2023, "MoMo: Momentum
    Models for Adaptive Learning Rates", algorithm 1):

        p <- p - min(learning_rate, max(h, 0) / |d|^2) * d,    d: moving average of g

    where h is the value of the averaged linear model of the loss at p minus the lower bound. A step whose `value` is
    infinite or NaN is skipped: the update is zero. `gx.metrics(state)` counts such steps as `skipped`.

    Args:
      learning_rate: Largest step size: a number, or a schedule (a function of the step count). Not negative; default 1.
      beta: Decay rate of the averages of gradient and loss; a value closer to 1 averages over more steps. In [0, 1);
        default 0.9.
      lower_bound: Lower bound on the loss; 0 is right for most losses, and a bound close to the lowest loss that
        training can reach gives better step sizes. Default 0.
      weight_decay: Strength of the weight decay: each step also divides the parameters by
        `1 + learning_rate * weight_decay`. Not negative; default 0.
      adapt_lower_bound: Whether to estimate the lower bound of the loss during training, starting from `lower_bound`.
        Default False.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params` and `value`, the loss. State: one array per parameter (4 bytes per
      entry in float32).

    >>> import gradtx as gx
    >>> gx.momo(0.5).links[0].learning_rate
    0.5
    """
    return chain(scale_by_momo(learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound, mask))
