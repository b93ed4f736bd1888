"""FTRL-Proximal: minimizes the sum of all linearized losses so far, plus an L1 and an L2 penalty.

    n_t = n_(t-1) + |g_t|^2,   n_0 = initial_accumulator_value
    s_t = (beta + n_t^(-learning_rate_power)) / learning_rate,   sigma_t = s_t - s_(t-1)
    z_t = z_(t-1) + g_t - sigma_t * w_t
    w_(t+1) = 0 if |z_t| <= l1,   else -(z_t - sign(z_t) * l1) / (s_t + 2 * l2)

McMahan et al., 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1 (alpha is the learning rate, the
power is -1/2), with the argument names and conventions of Ftrl in Keras and TensorFlow: the penalty is l1 * |w| + l2 *
|w|^2, so l2 is half of the paper's lambda_2.

The state contains d_t = z_t + (s_t + 2 * l2) * w_(t+1) instead of z_t; d_t equals z_t clipped to [-l1, l1]. If w_t are
the parameters passed to `update`, the formulas above become

    z_t = d_(t-1) + g_t - (s_t + 2 * l2) * w_t
    d_t = z_t clipped to modulus l1
    u_t = -w_t if |z_t| <= l1,   else (d_t - d_(t-1) - g_t) / (s_t + 2 * l2)

For constant hyperparameters and w_1 = 0 both forms give the same parameters. The second form does not need s_(t-1), so
the learning rate may follow a schedule (in the first form the weights would shrink together with the learning rate),
and training may start from any parameters (in the first form, with z_0 = 0, the first step discards them). Without
penalties FTRL-Proximal is the same as AdaGrad.
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
    """The state of `ftrl`.

    `count`: the number of steps taken. `n`: the sum of squared gradients. `dual`: the variable d of the module's
    docstring, which is z clipped to [-l1, l1].
    """

    count: Array = counter()
    n: Array = per_param(start="initial_accumulator_value", real=True, signed=False)
    dual: Array = per_param()


class ftrl(Elementwise, state=FtrlState, needs=("params",)):
    """Runs FTRL-Proximal, which sets many weights exactly to zero with an L1 penalty.

    Use it for linear models of sparse data, such as click prediction, in which most weights should be zero. `ftrl` is a
    complete optimizer, so do not add a learning rate: each update moves the parameters to the weights w that minimize
    the sum of the linearized losses so far plus the penalties (McMahan et al., 2013, "Ad Click Prediction: a View from
    the Trenches", algorithm 1):

        n <- n + |g|^2
        s  = (beta + n^(-learning_rate_power)) / learning_rate
        w <- 0 if |z| <= l1,   else -(z - sign(z) * l1) / (s + 2 * l2)

    where z is the sum of gradients, corrected for changes of s. A weight with |z| <= l1 becomes exactly zero, also in
    floating-point arithmetic. The penalty of a complex weight uses its modulus. TensorFlow's option for L2 shrinkage is
    missing; to add the gradient of an L2 penalty, put `gx.add_decayed_weights` before `ftrl` in a chain.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). The update of a weight is about
        learning_rate / (beta + n^(-learning_rate_power)) times its gradient. Not negative.
      learning_rate_power: Exponent with which the step size decreases as squared gradients accumulate; -0.5 is
        AdaGrad's, and 0 keeps the step size constant. Not positive; default -0.5.
      initial_accumulator_value: Initial value of the sum of squared gradients; a larger value makes the first updates
        smaller. Not negative; default 0.1.
      l1_regularization_strength: Strength of the L1 penalty l1 * |w|; a larger value sets more weights to zero. Not
        negative; default 0.
      l2_regularization_strength: Strength of the L2 penalty l2 * |w|^2, as in Keras (half of the paper's lambda_2). Not
        negative; default 0.
      beta: Added to the square root of the sum of squares; a larger value makes the first updates smaller. Not
        negative; default 0.

    State: two arrays per parameter (8 bytes per entry in float32). `update` needs `params`.

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
        # s_t + 2 * l2, multiplied by the learning rate, because a schedule may set the learning rate to zero.
        curved = self.beta + jnp.maximum(n, tiny) ** -self.learning_rate_power
        curved = curved + 2 * self.l2_regularization_strength * rate
        z = slots.dual + g - p / jnp.maximum(rate, tiny**0.25) * curved
        size = jnp.abs(z)
        inside = (size <= l1) & (l1 > 0)
        direction = z / jnp.where(size > 0, size, 1) if jnp.iscomplexobj(z) else leaf.sign(z)
        dual = jnp.where(inside, z, l1 * direction)
        return jnp.where(inside, -p, (dual - slots.dual - g) / curved * rate), slots._replace(n=n, dual=dual)
