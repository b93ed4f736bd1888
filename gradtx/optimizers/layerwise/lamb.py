"""LAMB: Adam's direction with weight decay, in every layer as long as the layer's weights.

    r_t = Adam's direction + weight_decay * x_t
    u_t = r_t * |x_t| / |r_t|      for every leaf

You et al., 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2.
"""

from __future__ import annotations

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.optimizers.layerwise.lars import scale_by_trust_ratio
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask

__all__ = ["lamb"]


@constructor
def lamb(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-6,
    eps_root: HyperArg = 0.0,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """LAMB; `mask` selects the leaves that decay. State: two arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.lamb(1e-3).links[2]
    scale_by_trust_ratio(min_norm=0.0, trust_coefficient=1.0, eps=0.0)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )
