"""MoMo: momentum whose step size is the one at which a model of the loss reaches its lower bound.

    d_t = beta * d_(t-1) + (1 - beta) * g_t                  d_1 = g_1, and so for f and gamma
    f_t = beta * f_(t-1) + (1 - beta) * value_t
    gamma_t = beta * gamma_(t-1) + (1 - beta) * <g_t, x_t>
    h_t = (1 + eta_t * weight_decay) * (f_t - lb_t - gamma_t) + <d_t, x_t>
    x_(t+1) = (x_t - min(eta_t, max(h_t, 0) / |d_t|^2) * d_t), shrunk by 1 / (1 + eta_t * weight_decay)

Schaipp et al., 2023, "MoMo: Momentum Models for Adaptive Learning Rates", algorithm 1; as in the authors' code the
shrinking acts on x_t alone. With `adapt_lower_bound` lb_t is estimated (algorithm 3). MoMo-Adam is
algorithm 2, in `momo_adam.py`. A step whose value is infinite or NaN is left out: the update is zero, and the averages
stay as they are.
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
    """The steps taken, the averages of gradient, loss and <g, x>, the lower bound, and the steps with a bad value."""

    exp_avg: Array = per_param()
    barf: Array = per_tree()
    gamma: Array = per_tree()
    lb: Array = per_tree(start="lower_bound")
    count: Array = counter()
    skipped: Array = counter()


class scale_by_momo(Treewide, state=MomoState, needs=("params", "value")):
    """The rule of MoMo: its updates descend. `update` needs params and `value`, the loss.

    A step whose value is infinite or NaN is skipped: its update is zero. `gx.metrics(state)` counts such steps as
    `skipped`.

    `learning_rate`, the largest step size, and `weight_decay`, on the leaves that `decay_mask` selects, are not
    negative; `beta` lies in [0, 1); `lower_bound` (default 0) bounds the loss from below.

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
    decay_mask: Any = selection()

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
    """MoMo. State: one array per parameter. `update` needs params and `value`, the loss.

    >>> import gradtx as gx
    >>> gx.momo(0.5).links[0].learning_rate
    0.5
    """
    return chain(scale_by_momo(learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound, mask))
