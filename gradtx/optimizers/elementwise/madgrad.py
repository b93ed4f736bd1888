"""MADGRAD: dual averaging with momentum, scaled by the cube root of the weighted sum of squared gradients.

    w_t = (eta_t + eps) * sqrt(t)
    s_t = s_(t-1) + w_t * g_t
    v_t = v_(t-1) + w_t * |g_t|^2
    z_t = x_1 - s_t / (cbrt(v_t) + eps)
    x_(t+1) = momentum * x_t + (1 - momentum) * z_t

Defazio and Jelassi, 2021, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient Method for
Stochastic Optimization", algorithm 1. As in the authors' code, eps is also added to the learning rate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import PARAM, counter, per_param
from gradtx.transforms.decay import add_decayed_weights
from gradtx.types import Mask, Slots

__all__ = ["MadgradState", "madgrad", "scale_by_madgrad"]


class MadgradState(NamedTuple):
    """The state of `scale_by_madgrad`.

    `count`: the number of steps taken. `grad_sum_sq`, `s`: the weighted sums of squared gradients and of gradients.
    `x0`: the initial parameters.
    """

    count: Array = counter()
    grad_sum_sq: Array = per_param(real=True, signed=False)
    s: Array = per_param()
    x0: Array = per_param(start=PARAM)


class scale_by_madgrad(Elementwise, state=MadgradState, needs=("params",)):
    """Moves the parameters by dual averaging with momentum.

    This is the transformation that `madgrad` uses. Do not add `scale_by_learning_rate` after it, because the update
    already includes the learning rate and the minus sign. The new parameters are p:

        z  = p_first - s / (cbrt(v) + eps)
        p <- momentum * p + (1 - momentum) * z

    where p_first are the initial parameters, and s and v are the sums of g and |g|^2, weighted by (learning_rate + eps)
    * sqrt(t).

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      momentum: Fraction of the current parameters that each step keeps; a value closer to 1 averages over more steps.
        In [0, 1]; default 0.9.
      eps: Added to the denominator and to the learning rate for numerical stability. Not negative; default 1e-6.

    State: three arrays per parameter (12 bytes per entry in float32). `update` needs `params`.

    Reference: Defazio and Jelassi, 2021, "Adaptivity without Compromise", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_madgrad(1.0, momentum=0.0, eps=0.0)
    >>> print(tx.update(jnp.array([8.0]), tx.init(jnp.zeros(1)), jnp.zeros(1))[0].round(3))  # -8 / cbrt(64)
    [-2.]
    """

    learning_rate: Hyper = hyper(ge=0)
    momentum: Hyper = hyper(default=0.9, ge=0, le=1)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Returns w_t, the factor of the current gradient in the sums."""
        return (self.learning_rate + self.eps) * jnp.sqrt(t.astype(float)), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        squares = leaf.finite_sum(slots.grad_sum_sq, leaf.abs_sq(g) * shared)
        s = slots.s + leaf.bounded(g) * shared
        cube_root = jnp.cbrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))
        z = slots.x0 - s / (cube_root + self.eps)
        return (z - p) * (1 - self.momentum), slots._replace(grad_sum_sq=squares, s=s)


@constructor
def madgrad(
    learning_rate: HyperArg,
    momentum: HyperArg = 0.9,
    weight_decay: HyperArg = 0.0,
    eps: HyperArg = 1e-6,
    mask: Mask = None,
) -> chain:
    """Runs MADGRAD, which adapts step sizes like AdaGrad and aims to generalize as well as SGD.

    Try it when neither SGD nor Adam works well. Tune the learning rate again for MADGRAD, and use little or no weight
    decay. With the initial parameters p_first, and sums s of g and v of |g|^2, weighted by (learning_rate + eps) *
    sqrt(t) (Defazio and Jelassi, 2021, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient
    Method for Stochastic Optimization", algorithm 1):

        p <- momentum * p + (1 - momentum) * (p_first - s / (cbrt(v) + eps))

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-2 is a usual first try. Not
        negative.
      momentum: Fraction of the current parameters that each step keeps; a value closer to 1 averages over more steps.
        In [0, 1]; default 0.9.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      eps: Added to the denominator and to the learning rate for numerical stability. Not negative; default 1e-6.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.madgrad(1e-2).links[-1]
    scale_by_madgrad(learning_rate=0.01, momentum=0.9, eps=1e-06)
    """
    return chain(add_decayed_weights(weight_decay, mask), scale_by_madgrad(learning_rate, momentum, eps))
