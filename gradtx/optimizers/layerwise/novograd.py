"""NovoGrad: uses one second moment per layer, the moving average of the squared norm of the layer's gradient.

    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2,   v_1 = |g_1|^2
    m_t = b1 * m_(t-1) + g_t / (sqrt(v_t + eps_root) + eps) + weight_decay * x_t,   m_0 = 0
    u_t = m_t

Ginsburg et al., 2019, "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep Networks",
algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.mask import selection
from gradtx.core.slots import counter, per_param, reduced
from gradtx.core.value import dtype
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["ScaleByNovogradState", "novograd", "scale_by_novograd"]


class ScaleByNovogradState(NamedTuple):
    """The state of `scale_by_novograd`.

    `count`: the number of steps taken. `mu`: the momentum. `nu`: the second moment, one number per leaf.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = reduced(real=True, signed=False)


class scale_by_novograd(Layerwise, state=ScaleByNovogradState, needs=("params",)):
    """Divides each layer's gradient by its recent norm, adds weight decay, and applies momentum.

    This is `novograd` without the learning rate:

        m <- b1 * m + g / (sqrt(v + eps_root) + eps) + weight_decay * p,    v: moving average of |g|^2 of the leaf

    Args:
      b1: Decay rate of the momentum, a decaying sum of the divided gradients; a value closer to 1 sums over more steps.
        In [0, 1]; default 0.9.
      b2: Decay rate of the second moment, one number per leaf; a value closer to 1 averages over more steps. In [0, 1];
        default 0.25.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to the divided gradient. Not
        negative; default 0.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      decay_mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the
        structure of the parameters, or a function that takes the parameters and returns such a tree; by default all
        parameters, although biases and norm scales are usually left out.

    State: one array per parameter (4 bytes per entry in float32), and one number per leaf. `update` needs `params`.

    Reference: Ginsburg et al., 2019, "Stochastic Gradient Methods with Layer-wise Adaptive Moments", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_novograd()
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(p), p)[0].round(3))
    [0.6 0.8]
    """

    b1: Hyper = hyper(default=0.9, ge=0, le=1)
    b2: Hyper = hyper(default=0.25, ge=0, le=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    decay_mask: Any = selection(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Returns whether this is the first step."""
        return t == 1, numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, decay_mask: bool) -> tuple[Array, Any]:
        decay = self.weight_decay if decay_mask else 0
        square = tree.norm_sq(g)
        nu = jnp.where(shared, square, leaf.moment(slots.nu, square, self.b2))
        scaled = g / (leaf.root(nu, self.eps_root) + self.eps)
        mu = slots.mu * self.b1 + scaled + p * decay
        return mu, slots._replace(mu=mu, nu=nu)


@constructor
def novograd(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.25,
    eps: HyperArg = 1e-6,
    eps_root: HyperArg = 0.0,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """Runs NovoGrad: divides each layer's gradient by its recent norm, adds weight decay, and applies momentum.

    Use it in place of AdamW when there is no memory for Adam's second moment. For every leaf p (Ginsburg et al., 2019,
    "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep Networks", algorithm 1):

        m <- b1 * m + g / (sqrt(v + eps_root) + eps) + weight_decay * p,    v: moving average of |g|^2 of the leaf
        p <- p - learning_rate * m

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-2 is a usual first try. Not
        negative.
      b1: Decay rate of the momentum, a decaying sum of the divided gradients; a value closer to 1 sums over more steps.
        In [0, 1]; default 0.9.
      b2: Decay rate of the second moment, one number per leaf; a value closer to 1 averages over more steps. In [0, 1];
        default 0.25.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-6.
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      weight_decay: Strength of the weight decay: `weight_decay * params` is added to the divided gradient. Not
        negative; default 0.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32), and
      one number per leaf.

    >>> import gradtx as gx
    >>> gx.novograd(1e-2).links[0]
    scale_by_novograd(b1=0.9, b2=0.25, eps=1e-06, eps_root=0.0, weight_decay=0.0)
    """
    rule = scale_by_novograd(b1, b2, eps, eps_root, weight_decay, decay_mask=mask)
    return chain(rule, scale_by_learning_rate(learning_rate))
