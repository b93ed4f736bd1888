"""LaProp: the average of the gradients that have been divided, each by the root current at its step.

    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    m_t = b1 * m_(t-1) + (1 - b1) * g_t / (sqrt(v_t / (1 - b2^t)) + eps)
    u_t = m_t / (1 - b1^t)

Ziyin, Wang and Ueda, 2020, "LaProp: Separating Momentum and Adaptivity in Adam", algorithm 1. Adam
divides the average instead, so its b1 must not be far above its b2; here they are free, and the
update is bounded for all of them. The authors' code (github.com/Z-T-WANG/LaProp-Optimizer) averages
the learning rate along with the gradient; the two agree while the rate is constant.
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
    """The rule of LaProp, without the learning rate.

    `b1` (0.9) and `b2` (0.999) lie in [0, 1), `eps` (1e-15, as in the authors' code) is not negative.
    The state's `mu` is the average of the divided gradients, kept in `mu_dtype`, by default the
    parameter's dtype but at least float32; `nu` is real.

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
    """LaProp, with decoupled weight decay on the leaves that `mask` selects (all by default).

    With `decouple_lr` the decay is not scaled by the learning rate, as in the authors' code, whose
    rate is 4e-4. State: two arrays per parameter. `update` needs params.

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
