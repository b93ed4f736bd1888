# ruff: noqa: N802  (PyTorch's names)
"""Adafactor, whose last link only PyTorch has: u = -min(eta, 1 / sqrt(t)) * g - eta * weight_decay * p."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.compat.torch.arguments import before, made, several
from gradtx.core.chain import chain
from gradtx.core.hyper import Hyper, HyperArg, Limits, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.optimizers.layerwise.adafactor import scale_by_factored_rms
from gradtx.transforms.clip import clip_by_block_rms
from gradtx.transforms.norms import scale_by_param_block_rms

__all__ = ["Adafactor", "scale_by_relative_step"]


class scale_by_relative_step(Elementwise, needs=("params",)):
    """Takes the last step of Adafactor: a learning rate of at most 1 / sqrt(t), and decoupled decay at the full rate.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative.
      weight_decay: Strength of the decoupled weight decay. Not negative; 0 by default.

    >>> import jax.numpy as jnp
    >>> from gradtx.compat.torch.adafactor import scale_by_relative_step
    >>> tx = scale_by_relative_step(learning_rate=2.0, weight_decay=0.25)
    >>> p = jnp.ones(1)
    >>> print(tx.update(jnp.ones(1), tx.init(p), p)[0])
    [-1.5]
    """

    learning_rate: Hyper = hyper(ge=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return jnp.minimum(self.learning_rate, jnp.asarray(t, jnp.result_type(float)) ** -0.5), numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return -(g * shared + p * (self.learning_rate * self.weight_decay)), slots


def Adafactor(
    lr: HyperArg = 1e-2,
    beta2_decay: Any = -0.8,
    eps: tuple[Any, HyperArg] = (None, 1e-3),
    d: HyperArg = 1.0,
    weight_decay: HyperArg = 0.0,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
) -> chain:
    """`torch.optim.Adafactor`: Adafactor as PyTorch computes it, with little memory and no momentum.

    optax's `adafactor` adds its epsilon to the squared gradient, factors the two largest axes if they are large
    enough, and scales the decay differently. Here the last two axes are always factored.

    Args:
      lr: Step size relative to the parameter's root mean square, a number or a schedule; it is at most 1 / sqrt(t)
        at step t. Not negative; 0.01 by default.
      beta2_decay: The decay rate of the second moment at step t is 1 - t^beta2_decay; a number or an array. Not
        positive; -0.8 by default.
      eps: Lower bounds: of the estimates (None for the dtype's machine epsilon), and of the parameter's root mean
        square. (None, 1e-3) by default.
      d: Largest root mean square of an update before the learning rate. At least 1; 1 by default.
      weight_decay: Strength of the decoupled weight decay: each step also moves a parameter towards zero by
        `lr * weight_decay` of its value. Not negative; 0 by default.
      maximize: Whether to maximize the objective: the sign of the gradient is changed first. False by default.
      foreach: Accepted for compatibility with PyTorch; has no effect.

    Returns:
      A transformation. State: for a matrix a number per row and per column; for a vector one array.

    >>> from gradtx.compat import torch
    >>> torch.Adafactor().links[-1]
    scale_by_relative_step(learning_rate=0.01, weight_decay=0.0)
    """
    Limits(le=0).check("torch.Adafactor", "beta2_decay", beta2_decay, schedules=False)
    Limits(ge=1, infinite=True).check("torch.Adafactor", "d", d)
    floor, scale = several("Adafactor", "eps", eps)
    rules = [
        made(
            "Adafactor",
            scale_by_factored_rms,
            decay_rate=("beta2_decay", -beta2_decay),
            epsilon=0.0,
            min_dim_size_to_factor=1,
            dims="last",
            floor=floor if floor[1] is not None else 0.0,
            dtype_floor=floor[1] is None,
        ),
        made("Adafactor", clip_by_block_rms, threshold=("d", d)),
        made("Adafactor", scale_by_param_block_rms, min_scale=scale),
        made(
            "Adafactor", scale_by_relative_step, learning_rate=("lr", lr), weight_decay=("weight_decay", weight_decay)
        ),
    ]
    return chain(*before("Adafactor", 0, maximize), *rules)
