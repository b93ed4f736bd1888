"""Grams: the absolute values of Adam's update with the signs of the current gradient.

    u_t = sign(g_t) * |a_t|,   a_t: Adam's update

Cao et al., 2024, "Grams: Gradient Descent with Adaptive Momentum Scaling", algorithm 1.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import ScaleByAdamState, scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["grams", "scale_by_grams"]


class scale_by_grams(scale_by_adam, state=ScaleByAdamState):
    """Gives the entries of Adam's update the signs of the current gradient.

    This is `grams` without learning rate and weight decay:

        u = sign(g) * |a|,    a: the update of `scale_by_adam`

    The sign of a complex number is g / |g|.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Cao et al., 2024, "Grams: Gradient Descent with Adaptive Momentum Scaling", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_grams()
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (1.0, -0.1):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(updates.astype("float16"))
    [-0.593]
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        u, slots = super().update_leaf(g, slots, p, shared)
        return leaf.sign(g) * jnp.abs(u), slots


@constructor
def grams(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs Grams: updates with the absolute values of Adam's update and the signs of the current gradient.

    Use it when Adam's momentum overshoots: apart from weight decay, every entry moves in the descent direction of its
    current gradient. With Adam's update a (Cao et al., 2024, "Grams: Gradient Descent with Adaptive Momentum Scaling",
    algorithm 1):

        p <- p - learning_rate * (sign(g) * |a| + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.grams(1e-3).links[0]
    scale_by_grams(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_grams(b1, b2, eps, eps_root, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
