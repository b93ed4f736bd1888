"""StableAdamW: AdamW with a lower learning rate for each tensor whose gradient exceeds its recent size.

    m_t, v_t: Adam's moments after bias correction
    RMS_t = sqrt(mean(|g_t|^2 / max(v_t, eps^2)))            over the entries of the tensor
    eta_t = learning_rate_t / max(1, RMS_t)
    x_(t+1) = x_t - eta_t * (m_t / (sqrt(v_t) + eps) + weight_decay * x_t)

Wortsman et al., 2023, "Stable and low-precision training for large-scale vision-language models", algorithm 2, which
adds Adafactor's clipping (Shazeer and Stern, 2018) to AdamW. As in the algorithm, and in the libraries optimi and
pytorch-optimizer, the lower learning rate also applies to the weight decay. So `scale_by_stable_adamw` itself includes
the weight decay. In the first author's published code the weight decay uses the full learning rate.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.mask import selection
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["scale_by_stable_adamw", "stable_adamw"]


class scale_by_stable_adamw(Layerwise, state=ScaleByAdamState, needs=("params",), corrected=("b1", "b2")):
    """Computes StableAdamW's update, including weight decay.

    This is `stable_adamw` without the learning rate:

        u = (m_hat / (sqrt(v_hat) + eps) + weight_decay * p) / max(1, RMS)

    where RMS is the root mean square of g / sqrt(v_hat) over the tensor.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.99 (about the last 100 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-6.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to Adam's update before the sum is
        divided by max(1, RMS). Not negative; default 0.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    State: two arrays per parameter (8 bytes per entry in float32; the second moment of a complex parameter is real).
    `update` needs `params`.

    Reference: Wortsman et al., 2023, "Stable and low-precision training for large-scale vision-language models",
    algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_stable_adamw(b1=0.0, weight_decay=0.5)
    >>> p = jnp.ones(2)
    >>> _, state = tx.update(jnp.full(2, 0.001), tx.init(p), p)
    >>> updates, _ = tx.update(jnp.full(2, 1.0), state, p)  # a jump: RMS = sqrt(1.99) divides the decay too
    >>> print(updates.round(2))
    [1.35 1.35]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.99, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-6, ge=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mask: Mask = selection(default=None)
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        left, grow_nu = self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(left=left, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, mask: bool) -> tuple[Array, Any]:
        decay = self.weight_decay if mask else 0
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        root = leaf.root(nu * shared.grow_nu)
        square = leaf.sum_sq(leaf.bounded(g) / jnp.maximum(root, self.eps)) / max(g.size, 1)
        lower = jnp.maximum(leaf.root(square), 1)
        return (mu / ((root + self.eps) * shared.left) + p * decay) / lower, slots._replace(mu=mu, nu=nu)


@constructor
def stable_adamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.99,
    eps: HyperArg = 1e-6,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.2,
    mask: Mask = None,
) -> chain:
    """Runs StableAdamW: AdamW with smaller updates for a tensor whose gradient suddenly grows.

    Use it when AdamW's loss has spikes. If RMS, the root mean square of g / sqrt(v_hat) over a tensor, exceeds 1, the
    second moment is out of date, and the tensor's update is divided by RMS (Wortsman et al., 2023, "Stable and
    low-precision training for large-scale vision-language models", algorithm 2):

        p <- p - learning_rate / max(1, RMS) * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)

    The defaults are the paper's values for CLIP models.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Up to 2e-3 in the paper. Not
        negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.99 (about the last 100 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-6.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to Adam's update before the sum is
        divided by max(1, RMS). Not negative; default 0.2.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.stable_adamw(2e-3)
    chain(
      scale_by_stable_adamw(b1=0.9, b2=0.99, eps=1e-06, weight_decay=0.2),
      scale_by_learning_rate(learning_rate=0.002),
    )
    """
    return chain(
        scale_by_stable_adamw(b1, b2, eps, weight_decay, mask, mu_dtype), scale_by_learning_rate(learning_rate)
    )
