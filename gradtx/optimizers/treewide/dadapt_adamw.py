"""D-Adaptation for AdamW: estimates the distance to the solution and uses it as the learning rate.

    l_t = d_t * eta_t * sqrt(1 - b2^t) / (1 - b1^t),   c = sqrt(b2)
    n_t = c * n_(t-1) + (1 - c) * l_t * <g_t, s_(t-1) / (sqrt(v_(t-1)) + eps)>
    m_t = b1 * m_(t-1) + (1 - b1) * l_t * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    s_t = c * s_(t-1) + (1 - c) * l_t * g_t
    x_(t+1) = x_t - m_t / (sqrt(v_t) + eps) - l_t * weight_decay * x_t
    d_(t+1) = max(d_t, n_t / ((1 - c) * |s_t|_1))

Defazio and Mishchenko, 2023, "Learning-Rate-Free Learning by D-Adaptation", algorithm 5. The estimate does not change
while all gradients are zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, sums, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import ByLeaf, Shared, Treewide
from gradtx.core.mask import selection
from gradtx.core.slots import average_weights, counter, per_param, per_tree
from gradtx.core.value import flag
from gradtx.types import Mask, Params, Slots, Updates

__all__ = ["DAdaptAdamWState", "dadapt_adamw", "scale_by_dadapt_adamw"]


class DAdaptAdamWState(NamedTuple):
    """The state of `scale_by_dadapt_adamw`.

    `exp_avg`, `exp_avg_sq`, `grad_sum`: m, v and s. `estim_lr`: the estimate d. `numerator_weighted`: n. `count`: the
    number of steps taken. `weights`: for each decay rate that is a schedule, the divisor of the bias correction, which
    is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    exp_avg: Array = per_param()
    exp_avg_sq: Array = per_param(real=True, signed=False)
    grad_sum: Array = per_param()
    estim_lr: Array = per_tree(start="estim_lr0", signed=False)
    numerator_weighted: Array = per_tree()
    count: Array = counter()
    weights: dict[str, Array] = average_weights()


class scale_by_dadapt_adamw(Treewide, state=DAdaptAdamWState, needs=("params",), corrected=("b1", "b2")):
    """Computes AdamW's update with a learning rate that D-Adaptation estimates.

    This is the transformation that `dadapt_adamw` uses. Do not add `scale_by_learning_rate` after it, because the
    update already includes the step size and the minus sign. The formula is in the module's docstring.

    Args:
      learning_rate: Factor by which the estimated learning rate is multiplied: a number, or a schedule (a function of
        the step count). Use 1, or a schedule that decays from 1. Not negative; default 1.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      estim_lr0: Initial estimate of the distance from the initial parameters to the solution; the estimate never
        shrinks, so choose it too small rather than too large. Positive; default 1e-6.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts
        `learning_rate * weight_decay * params` from the parameters. Here the learning rate is the estimate multiplied
        by the argument `learning_rate`. Not negative; default 0 (no decay).
      decay_mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the
        structure of the parameters, or a function that takes the parameters and returns such a tree; by default all
        parameters, although biases and norm scales are usually left out.
      decouple_lr: Whether to leave the estimated learning rate out of the weight decay: each step then subtracts
        `weight_decay * params` from the parameters. Default False.

    State: three arrays per parameter (12 bytes per entry in float32). `update` needs `params`.

    Reference: Defazio and Mishchenko, 2023, "Learning-Rate-Free Learning by D-Adaptation", algorithm 5.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_dadapt_adamw(estim_lr0=0.5)
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([2.0, -8.0]), tx.init(p), p)[0].round(3))
    [-0.5  0.5]
    """

    learning_rate: Hyper = hyper(default=1.0, ge=0)
    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    estim_lr0: Hyper = hyper(default=1e-6, gt=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    decay_mask: Any = selection(default=None)
    decouple_lr: bool = flag(default=False, kw_only=True)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        d, s = numbers.estim_lr, slots.grad_sum
        c = jnp.sqrt(self.b2)
        rate = d * self.learning_rate * jnp.sqrt(self.weight("b2", t, numbers)) / self.weight("b1", t, numbers)
        weighted = jax.tree.map(self._weighted, s, slots.exp_avg_sq)
        numerator = numbers.numerator_weighted * c + (1 - c) * rate * tree.real_vdot(updates, weighted)
        s = jax.tree.map(lambda s, g: s * c + leaf.bounded(g) * ((1 - c) * rate), s, updates)
        length = tree.number(params, sums.total([jnp.abs(x) for x in jax.tree.leaves(s)]))
        estimate = leaf.ratio(numerator, length * (1 - c))
        decay = self.weight_decay if self.decouple_lr else self.weight_decay * rate
        new = self.weighed(numbers)._replace(estim_lr=jnp.maximum(d, estimate), numerator_weighted=numerator)
        return Shared(rate=rate, s=ByLeaf(s), decay=decay), new

    def _weighted(self, s: Array, v: Array) -> Array:
        eps, zero = leaf.apart(v, self.eps, 0.0)
        return s / (leaf.root(v, zero) + eps)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, decay_mask: bool) -> tuple[Array, Any]:
        rate, decay = shared.rate, shared.decay if decay_mask else 0
        m = self.b1 * slots.exp_avg + (1 - self.b1) * rate * g  # multiplied in this order, the product cannot overflow
        v = leaf.moment(slots.exp_avg_sq, leaf.abs_sq(g), self.b2)
        return -p * decay - m / (leaf.root(v) + self.eps), slots._replace(exp_avg=m, exp_avg_sq=v, grad_sum=shared.s)


@constructor
def dadapt_adamw(
    learning_rate: HyperArg = 1.0,
    betas: tuple[HyperArg, HyperArg] = (0.9, 0.999),
    eps: HyperArg = 1e-8,
    estim_lr0: HyperArg = 1e-6,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs AdamW with a learning rate that D-Adaptation estimates during training.

    Use it when you want AdamW's results without tuning; `prodigy` usually finds the learning rate sooner. The estimate
    d is a lower bound on the distance from the initial parameters to the solution, and it never shrinks (Defazio and
    Mishchenko, 2023, "Learning-Rate-Free Learning by D-Adaptation", algorithm 5):

        p <- p - d * learning_rate * (Adam's update + weight_decay * p)

    Args:
      learning_rate: Factor by which the estimated learning rate is multiplied: a number, or a schedule (a function of
        the step count). Use 1, or a schedule that decays from 1. Not negative; default 1.
      betas: Decay rates (b1, b2) of the first and second moment, each in [0, 1). Default (0.9, 0.999).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      estim_lr0: Initial estimate of the distance from the initial parameters to the solution; the estimate never
        shrinks, so choose it too small rather than too large. Positive; default 1e-6.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts
        `learning_rate * weight_decay * params` from the parameters. Here the learning rate is the estimate multiplied
        by the argument `learning_rate`. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether to leave the estimated learning rate out of the weight decay: each step then subtracts
        `weight_decay * params` from the parameters. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.dadapt_adamw(weight_decay=0.1).links[0].weight_decay
    0.1
    """
    b1, b2 = checks.pair("dadapt_adamw", "betas", betas)
    settings = (b1, b2, eps, estim_lr0, weight_decay, mask)
    return chain(scale_by_dadapt_adamw(learning_rate, *settings, decouple_lr=decouple_lr))
