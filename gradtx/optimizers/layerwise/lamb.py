"""LAMB: Adam's update plus weight decay, scaled to the norm of each layer's weights.

    r_t = Adam's update + weight_decay * x_t
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
    """Runs LAMB for very large batches: Adam with updates proportional to the norm of each layer's weights.

    Use it for very large batches if you would use Adam for small batches. With Adam's update a, for every leaf (You et
    al., 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", algorithm 2):

        r  = a + weight_decay * p
        p <- p - learning_rate * r * |p| / |r|

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-6.
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to Adam's update before the sum is
        scaled. Not negative; default 0.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

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
