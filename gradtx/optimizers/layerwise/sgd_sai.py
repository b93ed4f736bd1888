"""SGD-SaI: SGD with momentum and one factor for every tensor, computed from the tensor's first gradient.

    s = |g| / (std(g) + eps)              of the first nonzero gradient; s = |g| for a vector or a single row
    m_t = momentum * m_(t-1) + (1 - momentum) * g_t
    u_t = s * m_t

Xu et al., 2024, "No More Adam: Learning Rate Scaling at Initialization is All You Need", algorithm 1. The standard
deviation is the sample standard deviation, and vectors are scaled by their norm, as in the authors' code. In the
authors' code s is zero for the whole run if the first gradient is zero; here s is computed from the first nonzero
gradient.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.slots import counter, reduced
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.momentum import ema
from gradtx.types import Mask, Slots

__all__ = ["GsnrState", "scale_by_gsnr", "sgd_sai"]


class GsnrState(NamedTuple):
    """The state of `scale_by_gsnr`.

    `count`: the number of steps taken. `gsnr`: the factor s of each tensor, 0 before its first nonzero gradient.
    """

    count: Array = counter()
    gsnr: Array = reduced(real=True, signed=False)


class scale_by_gsnr(Layerwise, state=GsnrState):
    """Multiplies every tensor by the signal-to-noise ratio of its first gradient.

    This is `sgd_sai` without momentum and learning rate:

        u = g * s,    s = |g| / (std(g) + eps) of the first nonzero gradient

    Args:
      eps: Added to the standard deviation for numerical stability. Not negative; default 1e-8.

    State: one number per tensor.

    Reference: Xu et al., 2024, "No More Adam: Learning Rate Scaling at Initialization is All You Need", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_gsnr()
    >>> g = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> print(tx.update(g, tx.init(g))[0].astype("float16"))
    [[7.277 0.   ]
     [0.    9.7  ]]
    """

    eps: Hyper = hyper(default=1e-8, ge=0)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        unit, size = tree.scaled(g)
        ratio = unit * size
        if g.ndim > 1 and g.shape[0] > 1:
            scaled = g / unit
            unlike = tree.norm(scaled - jnp.mean(scaled)) / math.sqrt(g.size - 1)
            noise = unlike + self.eps / unit
            ratio = jnp.where(unlike > 0, size / jnp.where(noise > 0, noise, 1), ratio)
        gsnr = jnp.where(slots.gsnr > 0, slots.gsnr, ratio)
        return g * gsnr, slots._replace(gsnr=gsnr)


@constructor
def sgd_sai(
    learning_rate: HyperArg,
    momentum: HyperArg = 0.9,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs SGD with momentum and one factor per tensor, with decoupled weight decay.

    Use it in place of AdamW when there is no memory for a second moment and the sizes of gradients differ greatly
    between tensors (Xu et al., 2024, "No More Adam: Learning Rate Scaling at Initialization is All You Need", algorithm
    1):

        s  = |g| / (std(g) + eps) of the first gradient
        p <- p - learning_rate * (moving average of s * g + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      momentum: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      eps: Added to the standard deviation for numerical stability. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32), and
      one number per tensor.

    >>> import gradtx as gx
    >>> gx.sgd_sai(1e-3).links[:2]
    (scale_by_gsnr(eps=1e-08), ema(decay=0.9, debias=False))
    """
    average = ema(ema.check_field("decay", momentum, who="sgd_sai", name="momentum"), False)
    decay = decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr)
    return chain(scale_by_gsnr(eps), average, *decay)
