"""LARS: makes every layer's update proportional to the norm of the layer's weights.

    u = g * trust_coefficient * |p| / (|g| + eps),   and u = g if one of the norms is zero

You, Gitman and Ginsburg, 2017, "Large Batch Training of Convolutional Networks", algorithm 1. A norm below `min_norm`
is replaced by `min_norm`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.mask import applies_to
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.momentum import trace
from gradtx.transforms.scale import scale_by_learning_rate

__all__ = ["lars", "scale_by_trust_ratio"]


class scale_by_trust_ratio(Layerwise, needs=("params",)):
    """Scales every leaf of the updates to the norm of its parameter.

    `lars` and `lamb` use this transformation. If one of the norms is zero, the update is unchanged.

        u = g * trust_coefficient * |p| / (|g| + eps)

    Args:
      min_norm: Lower bound: smaller norms of parameters and updates are replaced by this value. Not negative; default
        0.
      trust_coefficient: Ratio of the norm of a scaled update to the norm of its parameter. Not negative; default 1.
      eps: Added to the norm of the update for numerical stability. Not negative; default 0.
      mask: Which leaves to scale: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure of
        the parameters, or a function that takes the parameters and returns such a tree; all leaves by default. Other
        leaves are not scaled.

    State: none. `update` needs `params`.

    Reference: You, Gitman and Ginsburg, 2017, "Large Batch Training of Convolutional Networks", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_trust_ratio()
    >>> g, p = jnp.array([300.0, 400.0]), jnp.array([0.0, 5.0])
    >>> print(tx.update(g, tx.init(p), p)[0].astype("float16"))
    [3. 4.]
    """

    min_norm: Hyper = hyper(default=0.0, ge=0)
    trust_coefficient: Hyper = hyper(default=1.0, ge=0)
    eps: Hyper = hyper(default=0.0, ge=0)
    mask: Any = applies_to(default=None)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        scale, norm = tree.scaled(g)  # |g| = scale * norm, which may overflow
        p_norm = jnp.maximum(tree.norm(p), self.min_norm)
        g_norm = jnp.maximum(norm, self.min_norm / scale)
        some = (p_norm > 0) & (g_norm > 0)
        ratio = p_norm / jnp.where(some, g_norm + self.eps / scale, 1) * self.trust_coefficient
        return jnp.where(some, g * (1 / scale) * ratio, g), slots


@constructor
def lars(
    learning_rate: HyperArg,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    trust_coefficient: HyperArg = 0.001,
    eps: HyperArg = 0.0,
    trust_ratio_mask: Any = None,
    momentum: HyperArg = 0.9,
    nesterov: bool = False,
) -> chain:
    """Runs LARS for very large batches: SGD with momentum and updates proportional to each layer's norm.

    Use it for very large batches if you would use SGD with momentum for small batches, as for convolutional networks.
    For every leaf (You, Gitman and Ginsburg, 2017, "Large Batch Training of Convolutional Networks", algorithm 1):

        r  = g + weight_decay * p
        m <- momentum * m + learning_rate * r * trust_coefficient * |p| / (|r| + eps)
        p <- p - m

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to the gradient before the sum is
        scaled. Not negative; default 0.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      trust_coefficient: Ratio of the norm of a scaled update to the norm of its parameter. Not negative; default 1e-3.
      eps: Added to the norm of the update for numerical stability. Not negative; default 0.
      trust_ratio_mask: Which leaves to scale; accepts the same kinds of values as `mask`. All leaves by default;
        usually biases and the parameters of normalization layers should be left out.
      momentum: Decay rate of the momentum, which is a decaying sum of past updates; a value closer to 1 sums over more
        steps. In [0, 1]; default 0.9.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.lars(0.1).links[1]
    scale_by_trust_ratio(min_norm=0.0, trust_coefficient=0.001, eps=0.0)
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(0.0, trust_coefficient, eps, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(trace.check_field("decay", momentum, who="lars", name="momentum"), nesterov),
    )
