"""LaProp: divides each gradient by the square root of the second moment, then averages.

    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    m_t = b1 * m_(t-1) + (1 - b1) * g_t / (sqrt(v_t / (1 - b2^t)) + eps)
    u_t = m_t / (1 - b1^t)

Ziyin, Wang and Ueda, 2020, "LaProp: Separating Momentum and Adaptivity in Adam", algorithm 1. Adam averages first and
divides afterwards, so Adam's b1 must not be much larger than its b2. LaProp's update is bounded for all b1 and b2. The
authors' code (github.com/Z-T-WANG/LaProp-Optimizer) averages the divided gradients after multiplying them by the
learning rate, which gives the same result if the learning rate is constant.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["laprop", "scale_by_laprop"]


class scale_by_laprop(Elementwise, state=ScaleByAdamState, corrected=("b1", "b2")):
    """Divides each gradient by the square root of the second moment, then averages the results.

    This is `laprop` without learning rate and weight decay:

        u = moving average of g / (sqrt(v_hat) + eps),    v: moving average of |g|^2

    Args:
      b1: Decay rate of the moving average of the divided gradients; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-15 (as in the authors' code).
      mu_dtype: Dtype in which the average of the divided gradients is stored, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Ziyin, Wang and Ueda, 2020, "LaProp: Separating Momentum and Adaptivity in Adam", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_laprop()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4))
    [ 1. -1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-15, ge=0)
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_mu, grow_nu = 1 / self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(grow_mu=grow_mu, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        mu = leaf.moment(slots.mu, g / (leaf.root(nu * shared.grow_nu) + self.eps), self.b1)
        return mu * shared.grow_mu, slots._replace(mu=mu, nu=nu)


@constructor
def laprop(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-15,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs LaProp, a variant of Adam whose b1 and b2 can be chosen independently, with decoupled weight decay.

    Use it when Adam diverges with a small b2 or a large b1, as in reinforcement learning and GANs. Each gradient is
    divided by the square root of the second moment v before it is averaged (Ziyin, Wang and Ueda, 2020, "LaProp:
    Separating Momentum and Adaptivity in Adam", algorithm 1):

        m <- b1 * m + (1 - b1) * g / (sqrt(v_hat) + eps)
        p <- p - learning_rate * (m_hat + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 4e-4 in the authors' code. Not
        negative.
      b1: Decay rate of the moving average of the divided gradients; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-15 (as in the authors' code).
      mu_dtype: Dtype in which the average of the divided gradients is stored, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. The authors' code does this. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.laprop(4e-4)
    chain(
      scale_by_laprop(b1=0.9, b2=0.999, eps=1e-15),
      add_decayed_weights(weight_decay=0.0),
      scale_by_learning_rate(learning_rate=0.0004),
    )
    """
    return chain(
        scale_by_laprop(b1, b2, eps, mu_dtype),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
