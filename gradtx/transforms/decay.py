"""Weight decay: u = g + weight_decay * p.

Before a method's scaling this is the gradient of an L2 penalty; after it, it is decoupled decay
(Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization"). `decoupled_weight_decay` is how methods end
that decouple it:

    x_(t+1) = x_t - eta_t * (u_t + weight_decay * x_t)      as in optax and PyTorch
    x_(t+1) = x_t - eta_t * u_t - weight_decay * x_t        with decouple_lr
"""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx import checks, leaf
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper, largest_factor
from gradtx.core.leafwise import Elementwise
from gradtx.core.mask import applies_to
from gradtx.transforms.scale import scale, scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["add_decayed_weights", "decoupled_weight_decay"]


class add_decayed_weights(Elementwise, needs=("params",)):
    """Adds `weight_decay` times the parameters, to the leaves that `mask` selects.

    `weight_decay` (default 0) is not negative. `mask` is None for all leaves, a tree of booleans
    with the structure of the parameters or a prefix of it, or a function from the parameters to
    such a tree.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> grads = {"w": jnp.zeros(1), "b": jnp.zeros(1)}
    >>> tx = gx.add_decayed_weights(0.1, mask={"w": True, "b": False})
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> print(updates["w"], updates["b"])
    [0.1] [0.]

    Raises:
      ValueError: `update` is called without params, or the mask is no prefix of their tree.
      TypeError: a leaf of the mask is neither True nor False.
    """

    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mask: Mask = applies_to()

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return leaf.decayed(g, p, self.weight_decay), slots

    def largest(self, incoming: float, most: float) -> float:
        return incoming + most * largest_factor(self.weight_decay)


@constructor
def decoupled_weight_decay(
    learning_rate: HyperArg, weight_decay: HyperArg = 0.0, mask: Mask = None, *, decouple_lr: bool = False
) -> tuple[Any, ...]:
    """The last links of a method with decoupled weight decay.

    The decay is scaled by the learning rate, or, with `decouple_lr`, is the same at every rate.

    >>> import gradtx as gx
    >>> gx.chain(gx.scale_by_sign(), *gx.decoupled_weight_decay(0.1, weight_decay=0.01))
    chain(scale_by_sign(), add_decayed_weights(weight_decay=0.01), scale_by_learning_rate(learning_rate=0.1))
    """
    decay = add_decayed_weights(weight_decay, mask)
    if checks.flag("decoupled_weight_decay", "decouple_lr", decouple_lr):
        return scale_by_learning_rate(learning_rate, flip_sign=False), decay, scale(-1.0)
    return decay, scale_by_learning_rate(learning_rate)
