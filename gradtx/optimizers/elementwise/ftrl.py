"""FTRL-Proximal: the best weights in hindsight, by the linearized losses and an L1 and an L2 penalty.

    n_t = n_(t-1) + |g_t|^2,   n_0 = initial_accumulator_value
    s_t = (beta + n_t^(-learning_rate_power)) / learning_rate,   sigma_t = s_t - s_(t-1)
    z_t = z_(t-1) + g_t - sigma_t * w_t
    w_(t+1) = 0 where |z_t| <= l1,   else -(z_t - sign(z_t) * l1) / (s_t + 2 * l2)

McMahan et al., 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1 (alpha is the learning
rate, the power -1/2), with the names and numbers of Keras's and TensorFlow's Ftrl: its penalty is
l1 * |w| + l2 * |w|^2, so l2 is half the paper's lambda_2.

The state does not hold z_t but d_t = z_t + (s_t + 2 * l2) * w_(t+1), which is z_t clipped to [-l1, l1].
Substituted into the above, with w_t the parameters that `update` is given:

    z_t = d_(t-1) + g_t - (s_t + 2 * l2) * w_t
    d_t = z_t clipped to modulus l1
    u_t = -w_t where |z_t| <= l1,   else (d_t - d_(t-1) - g_t) / (s_t + 2 * l2)

For constant numbers and w_1 = 0 this is the same method. But s_(t-1) is gone, so the learning rate may
follow a schedule (in the first form the weights shrink along with it), and the start may be anywhere
(in the first form, with z_0 = 0, the first step forgets it). Without penalties it is AdaGrad.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.types import Slots

__all__ = ["FtrlState", "ftrl"]


class FtrlState(NamedTuple):
    """The steps taken, the sum of squares `n`, and `dual`, the slope of the L1 penalty that holds each weight."""

    count: Array = counter()
    n: Array = per_param(start="initial_accumulator_value", real=True, signed=False)
    dual: Array = per_param()


class ftrl(Elementwise, state=FtrlState, needs=("params",)):
    """FTRL-Proximal, a whole optimizer: it moves each weight to where the sum of the past puts it.

    A weight whose sum of gradients stays within `l1_regularization_strength` (0) is exactly zero, in
    floating point too: its update is the negative of the parameter. `l2_regularization_strength` (0) is
    that of Keras. The rate of a weight is learning_rate / (beta + n^(-learning_rate_power)), with the sum
    of squares n starting at `initial_accumulator_value` (0.1); the power (-0.5) is not positive, all
    others (`beta` is 0) are not negative. For complex weights the modulus is penalized. There is no
    shrinkage option: `add_decayed_weights` before it in a chain is an L2 penalty in the gradient.

    State: two arrays per parameter. `update` needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.ftrl(0.5, l1_regularization_strength=1.0)
    >>> params = jnp.zeros(2)
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.array([0.2, -1.0]), state, params)
    ...     params = gx.apply_updates(params, updates)
    >>> print(params.round(3))
    [0.    0.629]
    """

    learning_rate: Hyper = hyper(ge=0)
    learning_rate_power: Hyper = hyper(default=-0.5, le=0)
    initial_accumulator_value: Hyper = hyper(default=0.1, ge=0)
    l1_regularization_strength: Hyper = hyper(default=0.0, ge=0)
    l2_regularization_strength: Hyper = hyper(default=0.0, ge=0)
    beta: Hyper = hyper(default=0.0, ge=0)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        rate, l1 = self.learning_rate, self.l1_regularization_strength
        n = leaf.finite_sum(slots.n, leaf.abs_sq(g))
        tiny = float(jnp.finfo(n.dtype).tiny)
        # The weights' curvature, s_t + 2 * l2, times the rate, which a schedule may take to zero.
        curved = self.beta + jnp.maximum(n, tiny) ** -self.learning_rate_power
        curved = curved + 2 * self.l2_regularization_strength * rate
        z = slots.dual + g - p / jnp.maximum(rate, tiny**0.25) * curved
        size = jnp.abs(z)
        inside = (size <= l1) & (l1 > 0)
        direction = z / jnp.where(size > 0, size, 1) if jnp.iscomplexobj(z) else leaf.sign(z)
        dual = jnp.where(inside, z, l1 * direction)
        return jnp.where(inside, -p, (dual - slots.dual - g) / curved * rate), slots._replace(n=n, dual=dual)
