"""Prodigy: a variant of D-Adaptation that gives more weight to later gradients and so finds the learning rate sooner.

    l_t = d_t * eta_t * sqrt(1 - b2^t) / (1 - b1^t)
    n_t = beta3 * n_(t-1) + d_t / d_0 * l_t * <g_t, x_1 - x_t>
    s_t = beta3 * s_(t-1) + l_t * d_t * g_t / d_0                  (safeguard_warmup: d_t instead of l_t)
    m_t = b1 * m_(t-1) + (1 - b1) * d_t * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |d_t * g_t|^2
    d_(t+1) = max(d_t, estim_lr_coef * n_t / |s_t|_1)
    x_(t+1) = x_t - l_t * m_t / (sqrt(v_t) + d_(t+1) * eps) - l_t * weight_decay * x_t

Mishchenko and Defazio, 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", algorithm 4 and the authors'
code. The estimate does not change while all gradients are zero.
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
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.mask import selection
from gradtx.core.slots import PARAM, average_weights, counter, per_param, per_tree
from gradtx.core.value import flag
from gradtx.types import Mask, Params, Slots, Updates

__all__ = ["ProdigyState", "prodigy", "scale_by_prodigy"]


class ProdigyState(NamedTuple):
    """The state of `scale_by_prodigy`.

    `exp_avg`, `exp_avg_sq`, `grad_sum`: m, v and s. `params0`: the initial parameters. `estim_lr`: the estimate d.
    `numerator_weighted`: n. `count`: the number of steps taken. `weights`: for each decay rate that is a schedule, the
    divisor of the bias correction, which is 1 minus the product of the decay rates of all steps so far; empty if no
    decay rate is a schedule.
    """

    exp_avg: Array = per_param()
    exp_avg_sq: Array = per_param(real=True, signed=False)
    grad_sum: Array = per_param()
    params0: Array = per_param(start=PARAM)
    estim_lr: Array = per_tree(start="estim_lr0", signed=False)
    numerator_weighted: Array = per_tree()
    count: Array = counter()
    weights: dict[str, Array] = average_weights()


class scale_by_prodigy(Treewide, state=ProdigyState, needs=("params",), corrected=("b1", "b2")):
    """Computes AdamW's update with a learning rate that Prodigy estimates.

    This is the transformation that `prodigy` uses. Do not add `scale_by_learning_rate` after it, because the update
    already includes the step size and the minus sign. The formula is in the module's docstring.

    Args:
      learning_rate: Factor by which the estimated learning rate is multiplied: a number, or a schedule (a function of
        the step count). Use 1, or a schedule that decays from 1. Not negative; default 1.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      beta3: Decay rate of the sums from which the distance is estimated; a value closer to 1 sums over more steps. The
        square root of 0.999 by default. In [0, 1).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      estim_lr0: Initial estimate of the distance from the initial parameters to the solution; the estimate never
        shrinks, so choose it too small rather than too large. Positive; default 1e-6.
      estim_lr_coef: Factor by which the estimated distance is multiplied; 2 gives larger updates, 0.5 smaller ones. Not
        negative; default 1.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts
        `learning_rate * weight_decay * params` from the parameters. Here the learning rate is the estimate multiplied
        by the argument `learning_rate`. Not negative; default 0 (no decay).
      safeguard_warmup: Whether the factors of the gradients in the sum s do not include the learning rate. Set it if
        `learning_rate` is a warmup schedule, whose small first values would otherwise make the estimate too large.
        Default False.
      decay_mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the
        structure of the parameters, or a function that takes the parameters and returns such a tree; by default all
        parameters, although biases and norm scales are usually left out.
      decouple_lr: Whether to leave the estimated learning rate out of the weight decay: each step then subtracts
        `weight_decay * params` from the parameters. Default False.

    State: four arrays per parameter (16 bytes per entry in float32). `update` needs `params`.

    Reference: Mishchenko and Defazio, 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", algorithm 4.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_prodigy(estim_lr0=0.5)
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([2.0, -8.0]), tx.init(p), p)[0].round(3))
    [-0.5  0.5]
    """

    learning_rate: Hyper = hyper(default=1.0, ge=0)
    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    beta3: Hyper = hyper(default=0.999**0.5, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    estim_lr0: Hyper = hyper(default=1e-6, gt=0)
    estim_lr_coef: Hyper = hyper(default=1.0, ge=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    safeguard_warmup: bool = flag(default=False)
    decay_mask: Any = selection(default=None)
    decouple_lr: bool = flag(default=False, kw_only=True)

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, **extra: Any
    ) -> tuple[Any, Any]:
        d = numbers.estim_lr
        rate = d * self.learning_rate * jnp.sqrt(self.weight("b2", t, numbers)) / self.weight("b1", t, numbers)
        weight = (d if self.safeguard_warmup else rate) * d / self.estim_lr0
        toward = tree.real_vdot(updates, jax.tree.map(jnp.subtract, slots.params0, params))
        numerator = numbers.numerator_weighted * self.beta3 + d / self.estim_lr0 * rate * toward
        s = jax.tree.map(lambda s, g: self._grad_sum(s, g, weight), slots.grad_sum, updates)
        length = tree.number(params, sums.total([jnp.abs(x) for x in jax.tree.leaves(s)]))
        estimate = leaf.ratio(self.estim_lr_coef * numerator, length)
        new_d = jnp.maximum(d, estimate)
        decay = self.weight_decay if self.decouple_lr else self.weight_decay * rate
        shared = Shared(d=d, rate=rate, weight=weight, eps=new_d * self.eps, decay=decay)
        return shared, self.weighed(numbers)._replace(estim_lr=new_d, numerator_weighted=numerator)

    def _grad_sum(self, s: Array, g: Array, weight: Any) -> Array:
        return s * self.beta3 + leaf.bounded(g) * weight

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, decay_mask: bool) -> tuple[Array, Any]:
        d, decay = shared.d, shared.decay if decay_mask else 0
        m = leaf.moment(slots.exp_avg, g * d, self.b1)
        v = leaf.moment(slots.exp_avg_sq, leaf.abs_sq(g * d), self.b2)
        s = self._grad_sum(slots.grad_sum, g, shared.weight)
        u = -p * decay - m / (leaf.root(v) + shared.eps) * shared.rate
        return u, slots._replace(exp_avg=m, exp_avg_sq=v, grad_sum=s)


@constructor
def prodigy(
    learning_rate: HyperArg = 1.0,
    betas: tuple[HyperArg, HyperArg] = (0.9, 0.999),
    beta3: HyperArg | None = None,
    eps: HyperArg = 1e-8,
    estim_lr0: HyperArg = 1e-6,
    estim_lr_coef: HyperArg = 1.0,
    weight_decay: HyperArg = 0.0,
    safeguard_warmup: bool = False,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs AdamW with a learning rate that Prodigy estimates during training.

    Use it when you want AdamW's results without tuning. Prodigy finds the learning rate sooner than `dadapt_adamw`, but
    stores one more array per parameter. The estimate d is a lower bound on the distance from the initial parameters to
    the solution, and it never shrinks (Mishchenko and Defazio, 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free
    Learner", algorithm 4):

        p <- p - d * learning_rate * (Adam's update + weight_decay * p)

    Args:
      learning_rate: Factor by which the estimated learning rate is multiplied: a number, or a schedule (a function of
        the step count). Use 1, or a schedule that decays from 1. Not negative; default 1.
      betas: Decay rates (b1, b2) of the first and second moment, each in [0, 1). Default (0.9, 0.999).
      beta3: Decay rate of the sums from which the distance is estimated; a value closer to 1 sums over more steps. The
        square root of `betas[1]` by default. In [0, 1).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      estim_lr0: Initial estimate of the distance from the initial parameters to the solution; the estimate never
        shrinks, so choose it too small rather than too large. Positive; default 1e-6.
      estim_lr_coef: Factor by which the estimated distance is multiplied; 2 gives larger updates, 0.5 smaller ones. Not
        negative; default 1.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts
        `learning_rate * weight_decay * params` from the parameters. Here the learning rate is the estimate multiplied
        by the argument `learning_rate`. Not negative; default 0 (no decay).
      safeguard_warmup: Whether the factors of the gradients in the sum s do not include the learning rate. Set it if
        `learning_rate` is a warmup schedule, whose small first values would otherwise make the estimate too large.
        Default False.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether to leave the estimated learning rate out of the weight decay: each step then subtracts
        `weight_decay * params` from the parameters. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: four arrays per parameter (16 bytes per entry in float32).

    Raises:
      ValueError: `betas[1]` is a schedule, and `beta3` is not given.

    >>> import gradtx as gx
    >>> gx.prodigy(betas=(0.9, 0.81)).links[0].beta3
    0.9
    """
    b1, b2 = checks.pair("prodigy", "betas", betas)
    third = beta3
    if third is None:
        if callable(b2):
            raise ValueError(
                "prodigy: betas[1] is a schedule, so beta3 must be given: its default, the square root of "
                "betas[1], exists only if betas[1] is a number. Write for example beta3=0.999**0.5."
            )
        third = b2**0.5 if leaf.is_number(b2) else jnp.sqrt(b2)
    settings = (b1, b2, third, eps, estim_lr0, estim_lr_coef, weight_decay, safeguard_warmup, mask)
    return chain(scale_by_prodigy(learning_rate, *settings, decouple_lr=decouple_lr))
