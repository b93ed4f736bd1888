"""Adan: a variant of Adam with Nesterov momentum, which it computes from the differences of successive gradients.

    d_t = g_t - g_(t-1),   d_1 = 0
    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * d_t
    n_t = b3 * n_(t-1) + (1 - b3) * |g_t + (1 - b2) * d_t|^2
    u_t = (m_t / (1 - b1^t) + (1 - b2) * v_t / (1 - b2^t)) / (sqrt(n_t / (1 - b3^t) + eps_root) + eps)

Xie et al., 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models", algorithm 1, in the
same form as optax: each b is 1 - beta of the paper, the factor of v_t is 1 - b2, and the moments are corrected for
their start at zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAdanState", "adan", "scale_by_adan"]


class ScaleByAdanState(NamedTuple):
    """The state of `scale_by_adan`.

    `m`, `v`, `n`: the moving averages of the gradient, of the differences of successive gradients, and of the square of
    the extrapolated gradient. `g`: the previous gradient. `count`: the number of steps taken. `weights`: for each decay
    rate that is a schedule, the divisor of the bias correction, which is 1 minus the product of the decay rates of all
    steps so far; empty if no decay rate is a schedule.
    """

    m: Array = per_param()
    v: Array = per_param()
    n: Array = per_param(real=True, signed=False)
    g: Array = per_param()
    count: Array = counter()
    weights: dict[str, Array] = average_weights()


class scale_by_adan(Elementwise, state=ScaleByAdanState, corrected=("b1", "b2", "b3")):
    """Computes Adan's update: Adam with Nesterov momentum from gradient differences.

    This is `adan` without learning rate and weight decay:

        u = (m_hat + (1 - b2) * v_hat) / (sqrt(n_hat + eps_root) + eps)

    where m, v and n are the moving averages of the gradient g, of the difference d = g - g_previous, and of |g + (1 -
    b2) * d|^2.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.98 (about the last 50 steps).
      b2: Decay rate of the moving average of gradient differences; a value closer to 1 averages over more steps. In
        [0, 1); default 0.92.
      b3: Decay rate of the second moment; a value closer to 1 averages over more steps. In [0, 1); default 0.99.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.

    State: four arrays per parameter (16 bytes per entry in float32).

    Reference: Xie et al., 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
    algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adan()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(3))
    [ 1. -1.]
    """

    b1: Hyper = hyper(default=0.98, ge=0, lt=1)
    b2: Hyper = hyper(default=0.92, ge=0, lt=1)
    b3: Hyper = hyper(default=0.99, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_m, grow_v, grow_n = (1 / self.weight(decay, t, numbers) for decay in self.corrected)
        return Shared(first=t == 1, grow_m=grow_m, grow_v=grow_v, grow_n=grow_n), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        now = leaf.bounded(g)  # so that the difference of two gradients is finite
        d = jnp.where(shared.first, 0, now - leaf.bounded(slots.g))
        m = leaf.moment(slots.m, now, self.b1)
        v = leaf.moment(slots.v, d, self.b2)
        n = leaf.moment(slots.n, leaf.abs_sq(g + d * (1 - self.b2)), self.b3)
        scale = 1 / (leaf.root(n * shared.grow_n, self.eps_root) + self.eps)
        u = m * scale * shared.grow_m + v * scale * (shared.grow_v * (1 - self.b2))
        return u, slots._replace(m=m, v=v, n=n, g=g)


@constructor
def adan(
    learning_rate: HyperArg,
    b1: HyperArg = 0.98,
    b2: HyperArg = 0.92,
    b3: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs Adan, an Adam-like method with Nesterov momentum, with decoupled weight decay.

    Use it when there is memory for four arrays per parameter and you want faster progress than with AdamW, as in the
    paper's vision transformers. The moving averages are m of the gradient g, v of the difference d = g - g_previous,
    and n of |g + (1 - b2) * d|^2 (Xie et al., 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
    Deep Models", algorithm 1, which writes the decay rates as 1 - beta):

        u  = (m_hat + (1 - b2) * v_hat) / (sqrt(n_hat + eps_root) + eps)
        p <- p - learning_rate * (u + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). It is usually larger than for
        AdamW. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.98 (about the last 50 steps).
      b2: Decay rate of the moving average of gradient differences; a value closer to 1 averages over more steps. In
        [0, 1); default 0.92.
      b3: Decay rate of the second moment; a value closer to 1 averages over more steps. In [0, 1); default 0.99.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: four arrays per parameter (16 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adan(1e-3).links[0]
    scale_by_adan(b1=0.98, b2=0.92, b3=0.99, eps=1e-08, eps_root=1e-08)
    """
    rule = scale_by_adan(b1, b2, b3, eps, eps_root)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
