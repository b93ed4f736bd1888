"""Lion: the sign of an average between gradient and momentum.

    c_t = b1 * m_(t-1) + (1 - b1) * g_t
    u_t = sign(c_t)
    m_t = b2 * m_(t-1) + (1 - b2) * g_t

Chen et al., 2023, "Symbolic Discovery of Optimization Algorithms", program 1. The modes soften the sign:
`smooth` is tanh(smooth_beta * c), `refined` leaves |c| < 1 as it is. The sign of a complex number is c / |c|.
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
    """The steps taken, and the momentum."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")


class scale_by_lion(Elementwise, state=ScaleByLionState):
    """The rule of Lion.

    `b1` and `b2` lie in [0, 1]; `mode` is 'hard', 'smooth' or 'refined'; `smooth_beta` (positive, default 1)
    is the steepness of the smooth one. The momentum is kept in `mu_dtype`, at least float32 by default.

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
        """c_t; by the new momentum rather than by the old one, which then need not be kept beside it."""
        b1, b2 = self.b1, self.b2
        numbers = leaf.is_number(b1) and leaf.is_number(b2) and b2 > 0
        if not (numbers and b1 * (1 - b2) <= b2 * (1 - b1) / 2):  # else the difference below would lose digits
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
    """Lion with decoupled weight decay. State: one array per parameter. `update` needs params.

    Its steps are larger than Adam's: a rate 3 to 10 times smaller, and a decay as much larger, are usual.

    >>> import gradtx as gx
    >>> gx.lion(1e-4).links[0]
    scale_by_lion(b1=0.9, b2=0.99, smooth_beta=1.0)
    """
    rule = scale_by_lion(b1, b2, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
