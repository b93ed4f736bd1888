# ruff: noqa: N802  (PyTorch's names)
"""Adafactor as in PyTorch, which ends with u = -min(eta, 1 / sqrt(t)) * g - eta * weight_decay * p."""

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
    """Takes Adafactor's step with a learning rate of at most 1 / sqrt(t), and decays with the full learning rate.

        u = -min(learning_rate, 1 / sqrt(t)) * g - learning_rate * weight_decay * p

    Args:
      learning_rate: Upper bound on the step size, a number or a schedule of the step count. Not negative.
      weight_decay: Strength of the decoupled decay (default 0). Not negative.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
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
    """`torch.optim.Adafactor`: steps relative to the size of the parameters, with a factored second moment.

    It needs little memory and has no momentum. optax's `adafactor` differs: it adds its epsilon to the squared
    gradient, factors the two largest axes if they are large enough, and scales the weight decay differently. Here the
    last two axes are always factored, and `eps[0]` is a lower bound on the second moment.

    Args:
      lr: Upper bound on the relative step size (default 1e-2), a number or a schedule of the step count; step t uses at
        most 1 / sqrt(t). Not negative.
      beta2_decay: Exponent of the second moment's decay rate, 1 - t^beta2_decay (default -0.8). Not positive; a number
        or an array.
      eps: A pair: the lower bound on the second moment (None for the machine epsilon of the dtype, float32 or wider),
        and the lower bound on the root mean square of a parameter. Default (None, 1e-3).
      d: Largest root mean square of an update before the learning rate (default 1). At least 1.
      weight_decay: Strength of the decoupled decay (default 0). Not negative.
      foreach: PyTorch's choice of an implementation; accepted and ignored.
      maximize: Whether to ascend instead of descending. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: for a matrix one number per row and one number per column;
        for a vector one array.

    Example:
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
