"""AdamW: Adam with decoupled weight decay.

    x_(t+1) = x_t - eta_t * (u_t + lambda * x_t),   u_t as in Adam

Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization", algorithm 2, with the decay
scaled by the learning rate (as optax and PyTorch do).
"""

from __future__ import annotations

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, OptionalDType

__all__ = ["adamw"]


@constructor
def adamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: OptionalDType = None,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
    decouple_lr: bool = False,
) -> chain:
    """Adam with decoupled weight decay on the leaves that `mask` selects (all by default).

    With `decouple_lr` the decay is not scaled by the learning rate, as in the paper's algorithm with
    its schedule multiplier 1. State: two arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.adamw(1e-3, weight_decay=0.01)
    chain(
      scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0),
      add_decayed_weights(weight_decay=0.01),
      scale_by_learning_rate(learning_rate=0.001),
    )
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
