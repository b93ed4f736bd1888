"""Lion: the sign of a weighted average of gradient and momentum.

    c_t = b1 * m_(t-1) + (1 - b1) * g_t
    u_t = sign(c_t)
    m_t = b2 * m_(t-1) + (1 - b2) * g_t

Chen et al., 2023, "Symbolic Discovery of Optimization Algorithms", program 1. The other two modes replace sign(c): mode
'smooth' uses tanh(smooth_beta * c), and mode 'refined' clips c to [-1, 1]. The sign of a complex number is c / |c|.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.core.value import choice, dtype
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["ScaleByLionState", "lion", "scale_by_lion"]


class ScaleByLionState(NamedTuple):
    """The state of `scale_by_lion`. `count`: the number of steps taken. `mu`: the momentum."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")


class scale_by_lion(Elementwise, state=ScaleByLionState):
    """Computes the sign of a weighted average of gradient and momentum.

    This is `lion` without learning rate and weight decay:

        u  = sign(b1 * m + (1 - b1) * g)
        m <- b2 * m + (1 - b2) * g

    Args:
      b1: Averaging weight of the momentum in the update; the weight of the current gradient is 1 - b1. In [0, 1];
        default 0.9.
      b2: Decay rate of the momentum; a value closer to 1 averages over more steps. In [0, 1]; default 0.99.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      mode: How the update depends on the average c: 'hard' is sign(c), 'smooth' is tanh(smooth_beta * c), and 'refined'
        is c clipped to [-1, 1]. 'smooth' and 'refined' give smaller updates if c is small. Default 'hard'.
      smooth_beta: Steepness of the 'smooth' mode; a larger value is closer to the sign. Positive; default 1.

    State: one array per parameter (4 bytes per entry in float32).

    Reference: Chen et al., 2023, "Symbolic Discovery of Optimization Algorithms", program 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_lion()
    >>> print(tx.update(jnp.array([0.1, -5.0, 0.0]), tx.init(jnp.zeros(3)))[0])
    [ 1. -1.  0.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, le=1)
    b2: Hyper = hyper(default=0.99, ge=0, le=1)
    mu_dtype: Any = dtype(default=None)
    mode: str = choice(default="hard", options=("hard", "smooth", "refined"), kw_only=True)
    smooth_beta: Hyper = hyper(default=1.0, gt=0, kw_only=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b2)
        return self._soft_sign(self._average(slots.mu, mu, g)), slots._replace(mu=mu)

    def _average(self, old: Array, new: Array, g: Array) -> Array:
        """Returns c_t, computed from the new momentum if possible, so that the old momentum need not stay in memory."""
        b1, b2 = self.b1, self.b2
        numbers = leaf.is_number(b1) and leaf.is_number(b2) and b2 > 0
        if not (numbers and b1 * (1 - b2) <= b2 * (1 - b1) / 2):  # else the difference below would lose precision
            return leaf.moment(old, g, b1)
        return new * (b1 / b2) + g * (1 - b1 - b1 / b2 * (1 - b2))

    def largest(self, incoming: float, most: float) -> float:
        return 1.0 if self.mode == "hard" else math.inf

    def _soft_sign(self, c: Array) -> Array:
        if self.mode == "hard":
            return leaf.sign(c)
        if self.mode == "refined":
            return leaf.clip(c, 1)
        if jnp.iscomplexobj(c):
            return jnp.sign(c) * jnp.tanh(jnp.abs(c) * self.smooth_beta)
        return jnp.tanh(c * self.smooth_beta)


@constructor
def lion(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.99,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 1e-3,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs Lion, whose updates have the same absolute value in every entry, with decoupled weight decay.

    Use it when memory is short: Lion stores one array per parameter, and Adam stores two. Lion's updates are larger
    than Adam's, so use a learning rate 3 to 10 times smaller, and a weight decay larger by the same factor (Chen et
    al., 2023, "Symbolic Discovery of Optimization Algorithms", program 1):

        p <- p - learning_rate * (sign(b1 * m + (1 - b1) * g) + weight_decay * p)
        m <- b2 * m + (1 - b2) * g

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-4 is a usual first try. Not
        negative.
      b1: Averaging weight of the momentum in the update; the weight of the current gradient is 1 - b1. In [0, 1];
        default 0.9.
      b2: Decay rate of the momentum; a value closer to 1 averages over more steps. In [0, 1]; default 0.99.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 1e-3.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.lion(1e-4).links[0]
    scale_by_lion(b1=0.9, b2=0.99, smooth_beta=1.0)
    """
    rule = scale_by_lion(b1, b2, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
