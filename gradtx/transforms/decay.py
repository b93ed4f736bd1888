"""Weight decay: u = g + weight_decay * p.

Before a scaling such as `scale_by_adam`, the added term is the gradient of an L2 penalty. After the scaling, it is
decoupled weight decay (Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization"). Optimizers with decoupled
weight decay end with the transformations that `decoupled_weight_decay` returns:

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
    """Adds `weight_decay` times the parameters to the updates: weight decay for use in a chain.

        u = g + weight_decay * p

    Put it between a scaling such as `scale_by_adam` and the learning rate for decoupled weight decay, as in AdamW.
    Before the scaling it acts as an L2 penalty instead.

    Args:
      weight_decay: Strength of the decay (default 0). Not negative. If `scale_by_learning_rate` follows in the chain,
        the decay is also multiplied by the learning rate.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> params = {"w": jnp.ones(1), "b": jnp.ones(1)}
      >>> grads = {"w": jnp.zeros(1), "b": jnp.zeros(1)}
      >>> tx = gx.add_decayed_weights(0.1, mask={"w": True, "b": False})
      >>> updates, _ = tx.update(grads, tx.init(params), params)
      >>> print(updates["w"], updates["b"])
      [0.1] [0.]

    Raises:
      ValueError: `update` is called without `params`, or the structure of the mask does not match the parameters.
      TypeError: A leaf of the mask is neither True nor False.
    """

    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mask: Mask = applies_to(default=None)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return leaf.decayed(g, p, self.weight_decay), slots

    def largest(self, incoming: float, most: float) -> float:
        return incoming + most * largest_factor(self.weight_decay)


@constructor
def decoupled_weight_decay(
    learning_rate: HyperArg, weight_decay: HyperArg = 0.0, mask: Mask = None, *, decouple_lr: bool = False
) -> tuple[Any, ...]:
    """Returns the last transformations of an optimizer with decoupled weight decay: the decay and the learning rate.

    Use it to build an optimizer like AdamW from your own scaling of the gradient: `chain(my_scaling(),
    *decoupled_weight_decay(learning_rate=1e-3, weight_decay=0.1))`.

        p <- p - learning_rate * (u + weight_decay * p)      by default
        p <- p - learning_rate * u - weight_decay * p        with decouple_lr

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      weight_decay: Strength of the decay (default 0). Not negative.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. In that case use a much smaller `weight_decay`,
        such as 1e-4. Default False.

    Returns:
      A tuple of transformations; unpack it at the end of a `chain`. The transformations keep no state except step
      counts.

    References:
      Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization".

    Example:
      >>> import gradtx as gx
      >>> gx.chain(gx.scale_by_sign(), *gx.decoupled_weight_decay(0.1, weight_decay=0.01))
      chain(scale_by_sign(), add_decayed_weights(weight_decay=0.01), scale_by_learning_rate(learning_rate=0.1))
    """
    decay = add_decayed_weights(weight_decay, mask)
    if checks.flag("decoupled_weight_decay", "decouple_lr", decouple_lr):
        return scale_by_learning_rate(learning_rate, flip_sign=False), decay, scale(-1.0)
    return decay, scale_by_learning_rate(learning_rate)
