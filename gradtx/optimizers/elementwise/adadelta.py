"""AdaDelta: scales each update by the size of past updates, so the learning rate needs no tuning.

    e_t = rho * e_(t-1) + (1 - rho) * |g_t|^2
    u_t = g_t * sqrt(d_(t-1) + eps) / sqrt(e_t + eps)
    d_t = rho * d_(t-1) + (1 - rho) * |u_t|^2

Zeiler, 2012, "ADADELTA: An Adaptive Learning Rate Method", algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAdaDeltaState", "adadelta", "scale_by_adadelta"]


class ScaleByAdaDeltaState(NamedTuple):
    """The state of `scale_by_adadelta`.

    `e_g`, `e_x`: the moving averages of the squared gradient and of the squared update. `count`: the number of steps
    taken.
    """

    e_g: Array = per_param(real=True, signed=False)
    e_x: Array = per_param(real=True, signed=False)
    count: Array = counter()


class scale_by_adadelta(Elementwise, state=ScaleByAdaDeltaState):
    """Scales the gradient by the ratio of past updates to past gradients.

    This is `adadelta` without learning rate and weight decay (Zeiler, 2012, algorithm 1):

        u = g * sqrt(d + eps) / sqrt(e + eps),    e, d: moving averages of |g|^2 and |u|^2

    Args:
      rho: Decay rate of both moving averages; a value closer to 1 averages over more steps. In [0, 1); default 0.9.
      eps: Added to both averages under the square root; it sets the size of the first updates, which is about
        sqrt(eps). Not negative; default 1e-6.

    State: two arrays per parameter (8 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adadelta(rho=0.5, eps=1.0)
    >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(f"{updates[0]:.4f}")  # 2 / sqrt(3)
    1.1547
    """

    rho: Hyper = hyper(default=0.9, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        e_g = leaf.moment(slots.e_g, leaf.abs_sq(g), self.rho)
        u = g * (leaf.root(slots.e_x, self.eps) / leaf.root(e_g, self.eps))
        e_x = leaf.moment(slots.e_x, leaf.abs_sq(u), self.rho)
        return u, slots._replace(e_g=e_g, e_x=e_x)


@constructor
def adadelta(
    learning_rate: HyperArg = 1.0,
    rho: HyperArg = 0.9,
    eps: HyperArg = 1e-6,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """Runs AdaDelta, which needs no tuned learning rate.

    Use it when you do not want to choose a learning rate and have time: the entries of the first updates are only about
    sqrt(eps), and the updates grow slowly. Each gradient is scaled by the ratio of past updates to past gradients
    (Zeiler, 2012, "ADADELTA: An Adaptive Learning Rate Method", algorithm 1):

        u  = g * sqrt(d + eps) / sqrt(e + eps),    e, d: moving averages of |g|^2 and |u|^2
        p <- p - learning_rate * u

    Args:
      learning_rate: Factor by which every update is multiplied: a number, or a schedule (a function of the step count);
        1 gives the paper's method. Not negative; default 1.
      rho: Decay rate of both moving averages; a value closer to 1 averages over more steps. In [0, 1); default 0.9.
      eps: Added to both averages under the square root; a larger value makes the first updates larger. Not negative;
        default 1e-6.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32). `update` needs `params` unless
      `weight_decay` is the number 0. The updates already have the minus sign for descent; the updates of optax's
      `adadelta()` without a learning rate do not.

    >>> import gradtx as gx
    >>> gx.adadelta()
    chain(scale_by_adadelta(rho=0.9, eps=1e-06), scale_by_learning_rate(learning_rate=1.0))
    """
    decay = add_decayed_weights(weight_decay, mask)
    rule = chain(scale_by_adadelta(rho, eps), scale_by_learning_rate(learning_rate))
    if leaf.is_number(decay.weight_decay) and decay.weight_decay == 0:
        return rule
    return chain(decay, *rule.links)
