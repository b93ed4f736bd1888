"""AdaMax: a variant of Adam that divides by the largest recent gradient instead of by the second moment's root.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = max(b2 * v_(t-1), |g_t| + eps)
    u_t = (m_t / (1 - b1^t)) / v_t

Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization", algorithm 2; eps is added as in optax and PyTorch.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["adamax", "adamaxw", "scale_by_adamax"]


class scale_by_adamax(Elementwise, state=ScaleByAdamState, corrected=("b1",)):
    """Divides the first moment of the gradient by the largest recent gradient.

    This is `adamax` and `adamaxw` without learning rate and weight decay:

        u = m_hat / v,    v <- max(b2 * v, |g| + eps)

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the largest gradient; a value closer to 1 forgets a large gradient more slowly. In [0, 1];
        default 0.999.
      eps: Added to the absolute value of the gradient, so that the divisor is not zero. Not negative; default 1e-8.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adamax()
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (4.0, 1.0):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(f"{state.nu[0]:.3f}")
    3.996
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, le=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    mu_dtype: ClassVar[None] = None  # the state is kept in float32 or wider

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return Shared(corrections=self.debias("b1", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = jnp.maximum(slots.nu * self.b2, jnp.abs(g) + self.eps)
        # The lower bound keeps the product with the bias correction from becoming subnormal or zero.
        largest = jnp.maximum(nu, 2.0**24 * float(jnp.finfo(nu.dtype).tiny))
        return leaf.debiased_ratio(mu, g, largest, shared.corrections), slots._replace(mu=mu, nu=nu)


@constructor
def adamax(learning_rate: HyperArg, b1: HyperArg = 0.9, b2: HyperArg = 0.999, eps: HyperArg = 1e-8) -> chain:
    """Runs AdaMax, which divides by the largest recent gradient instead of the square root of Adam's second moment.

    Try it in place of Adam when gradients are sparse or occasionally very large, as for embeddings (Kingma and Ba,
    2015, "Adam: A Method for Stochastic Optimization", algorithm 2):

        v <- max(b2 * v, |g| + eps)
        p <- p - learning_rate * m_hat / v,    m: moving average of g

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 2e-3 in the paper. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the largest gradient; a value closer to 1 forgets a large gradient more slowly. In [0, 1];
        default 0.999.
      eps: Added to the absolute value of the gradient, so that the divisor is not zero. Not negative; default 1e-8.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adamax(2e-3)
    chain(scale_by_adamax(b1=0.9, b2=0.999, eps=1e-08), scale_by_learning_rate(learning_rate=0.002))
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@constructor
def adamaxw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs AdaMax with decoupled weight decay.

    Use it instead of `adamax` if you want weight decay (Kingma and Ba, 2015, algorithm 2; Loshchilov and Hutter, 2019,
    "Decoupled Weight Decay Regularization"):

        v <- max(b2 * v, |g| + eps)
        p <- p - learning_rate * (m_hat / v + weight_decay * p),    m: moving average of g

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 2e-3 in the paper. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the largest gradient; a value closer to 1 forgets a large gradient more slowly. In [0, 1];
        default 0.999.
      eps: Added to the absolute value of the gradient, so that the divisor is not zero. Not negative; default 1e-8.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 1e-4.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adamaxw(2e-3).links[1]
    add_decayed_weights(weight_decay=0.0001)
    """
    rule = scale_by_adamax(b1, b2, eps)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
