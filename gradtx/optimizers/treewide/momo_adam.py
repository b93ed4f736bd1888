"""MoMo-Adam: Adam with the step size at which a linear model of the loss reaches the lower bound on the loss.

    m_t, v_t as in Adam, D_t = eps + sqrt(v_t / (1 - b2^t)), c_t = 1 - b1^t
    f_t = b1 * f_(t-1) + (1 - b1) * value_t
    gamma_t = b1 * gamma_(t-1) + (1 - b1) * <g_t, x_t>
    h_t = (1 + eta_t * weight_decay) * (f_t - c_t * lb_t - gamma_t) + <m_t, x_t>
    u_t = min(eta_t / c_t, max(h_t, 0) / <m_t, m_t / D_t>) * m_t / D_t
    x_(t+1) = x_t - u_t - x_t * eta_t * weight_decay / (1 + eta_t * weight_decay)

Schaipp et al., 2023, "MoMo: Momentum Models for Adaptive Learning Rates", algorithm 2. A step whose value is infinite
or NaN is skipped: the update is zero, the averages are unchanged, and t does not count the step.
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
from gradtx.core.slots import average_weights, counter, per_param, per_tree
from gradtx.core.value import flag
from gradtx.types import Mask, Params, Slots, Updates

__all__ = ["MomoAdamState", "momo_adam", "scale_by_momo_adam"]


@reports("skipped")
class MomoAdamState(NamedTuple):
    """The state of `scale_by_momo_adam`.

    `exp_avg`, `exp_avg_sq`: Adam's moments. `barf`, `gamma`: the averages of the loss and of <g, x>. `lb`: the lower
    bound. `count`: the number of steps. `skipped`: the number of steps whose value was infinite or NaN. `weights`: for
    each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product of the decay
    rates of all steps so far; empty if no decay rate is a schedule.
    """

    exp_avg: Array = per_param()
    exp_avg_sq: Array = per_param(real=True, signed=False)
    barf: Array = per_tree()
    gamma: Array = per_tree()
    lb: Array = per_tree(start="lower_bound")
    count: Array = counter()
    skipped: Array = counter()
    weights: dict[str, Array] = average_weights()


class scale_by_momo_adam(Treewide, state=MomoAdamState, needs=("params", "value"), corrected=("b1", "b2")):
    """Applies Adam's direction with a step size that is computed from the loss and a lower bound on the loss.

    This is the transformation that `momo_adam` uses. Do not add `scale_by_learning_rate` after it, because the update
    already includes the step size and the minus sign. The formula is in the module's docstring. A step whose `value` is
    infinite or NaN is skipped: the update is zero. `gx.metrics(state)` counts such steps as `skipped`.

    Args:
      learning_rate: Largest step size: a number, or a schedule (a function of the step count). Not negative; default
        0.01.
      b1: Decay rate of the averages of gradient and loss; a value closer to 1 averages over more steps. In [0, 1);
        default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      lower_bound: Lower bound on the loss; 0 is right for most losses, and a bound close to the lowest loss that
        training can reach gives better step sizes. Default 0.
      weight_decay: Strength of the weight decay: each step also divides the parameters by
        `1 + learning_rate * weight_decay`. Not negative; default 0.
      adapt_lower_bound: Whether to estimate the lower bound of the loss during training, starting from `lower_bound`.
        Default False.
      decay_mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the
        structure of the parameters, or a function that takes the parameters and returns such a tree; by default all
        parameters, although biases and norm scales are usually left out.

    State: two arrays per parameter (8 bytes per entry in float32). `update` needs `params` and `value`, the loss.

    Reference: Schaipp et al., 2023, "MoMo: Momentum Models for Adaptive Learning Rates", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_momo_adam(0.5)
    >>> p = g = jnp.array([2.0, 0.0])
    >>> print(tx.update(g, tx.init(p), p, value=2.0)[0].round(3))
    [-0.5 -0. ]
    """

    learning_rate: Hyper = hyper(default=1e-2, ge=0)
    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    lower_bound: Hyper = hyper(default=0.0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    adapt_lower_bound: bool = flag(default=False)
    decay_mask: Any = selection(default=None)

    def _moments(self, g: Array, m: Array, v: Array) -> tuple[Array, Array]:
        return leaf.moment(m, g, self.b1), leaf.moment(v, leaf.abs_sq(g), self.b2)

    def _direction(self, m: Array, v: Array, left: Any) -> Array:
        """Returns the first moment divided by D."""
        return m / (leaf.root(v / left) + self.eps)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, *, value: Any
    ) -> tuple[Any, Any]:
        value, taken = jnp.asarray(value, numbers.barf.dtype), t - numbers.skipped
        lb, c, left = numbers.lb, self.weight("b1", taken, numbers), self.weight("b2", taken, numbers)
        m = jax.tree.map(lambda m, g: leaf.moment(m, g, self.b1), slots.exp_avg, updates)
        u = jax.tree.map(
            lambda g, m, v: self._direction(*self._moments(g, m, v), left), updates, slots.exp_avg, slots.exp_avg_sq
        )
        average = leaf.moment(numbers.barf, value, self.b1)
        inner = leaf.moment(numbers.gamma, tree.real_vdot(updates, params), self.b1)
        square, along = tree.real_vdot(m, u), tree.real_vdot(m, params)
        grown = 1 + self.learning_rate * self.weight_decay
        if self.adapt_lower_bound:
            reachable = grown * (average - inner) + along
            lower = jnp.maximum(reachable / (2 * c * grown), self.lower_bound)
            lb = jnp.where(reachable < grown * c * lb, lower, lb)
        rise = jnp.maximum(grown * (average - c * lb - inner) + along, 0)
        rate = self.learning_rate / c
        step = leaf.ratio(rate * rise, jnp.maximum(rate * square, rise))  # min(rate, rise / square)
        if self.adapt_lower_bound:
            lb = jnp.maximum((average + along - inner - 0.5 * step * square) / c, self.lower_bound)
        shrink = self.learning_rate * self.weight_decay / grown
        new, good = self.weighed(numbers)._replace(barf=average, gamma=inner, lb=lb), jnp.isfinite(value)
        shared = Shared(good=good, left=left, step=jnp.where(good, step, 0), shrink=jnp.where(good, shrink, 0))
        return shared, or_one_more_skipped(good, new, numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, decay_mask: bool) -> tuple[Array, Any]:
        shrink = shared.shrink if decay_mask else 0
        old = slots.exp_avg, slots.exp_avg_sq
        m, v = (jnp.where(shared.good, new, x) for new, x in zip(self._moments(g, *old), old, strict=True))
        u = self._direction(m, v, shared.left)
        return -p * shrink - u * shared.step, slots._replace(exp_avg=m, exp_avg_sq=v)


@constructor
def momo_adam(
    learning_rate: HyperArg = 1e-2,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    lower_bound: HyperArg = 0.0,
    weight_decay: HyperArg = 0.0,
    adapt_lower_bound: bool = False,
    mask: Mask = None,
) -> chain:
    """Runs MoMo-Adam: Adam with a step size that is computed from the loss and a lower bound on the loss.

    Use it in place of Adam when you know a lower bound on the loss, often 0. Then `learning_rate` is only the largest
    step size and needs little tuning. Call `tx.update(grads, state, params, value=loss)` (Schaipp et al., 2023, "MoMo:
    Momentum Models for Adaptive Learning Rates", algorithm 2):

        p <- p - min(learning_rate / c, max(h, 0) / <m, m / D>) * m / D,    c = 1 - b1^t

    where m / D is Adam's direction, and h is the value of the averaged linear model of the loss at p minus the lower
    bound. A step whose `value` is infinite or NaN is skipped: the update is zero. `gx.metrics(state)` counts such steps
    as `skipped`.

    Args:
      learning_rate: Largest step size: a number, or a schedule (a function of the step count). Not negative; default
        0.01.
      b1: Decay rate of the averages of gradient and loss; a value closer to 1 averages over more steps. In [0, 1);
        default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
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
      A transformation whose `update` needs `params` and `value`, the loss. State: two arrays per parameter (8 bytes per
      entry in float32).

    >>> import gradtx as gx
    >>> gx.momo_adam().links[0].learning_rate
    0.01
    """
    return chain(scale_by_momo_adam(learning_rate, b1, b2, eps, lower_bound, weight_decay, adapt_lower_bound, mask))
