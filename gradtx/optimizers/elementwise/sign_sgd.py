"""Sign descent: the update is the sign of the gradient, or the sign of its moving average.

    signSGD:  u_t = sign(g_t)
    Signum:   m_t = beta * m_(t-1) + (1 - beta) * g_t,   u_t = sign(m_t)

Bernstein et al., 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", algorithms 1 and 2. The sign of a
complex number is z / |z|.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.core.leafwise import Elementwise
from gradtx.transforms.momentum import ema
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["scale_by_sign", "sign_sgd", "signum"]


class scale_by_sign(Elementwise):
    """Replaces every entry by its sign; the sign of 0 is 0.

    State: none.

    Reference: Bernstein et al., 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_sign()
    >>> print(tx.update(jnp.array([0.5, -3.0, 0.0]), tx.init(jnp.zeros(3)))[0])
    [ 1. -1.  0.]
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return leaf.sign(g), slots

    def largest(self, incoming: float, most: float) -> float:
        return 1.0


@constructor
def sign_sgd(learning_rate: HyperArg) -> chain:
    """Runs sign descent: every entry moves by the learning rate, against the sign of its gradient.

    Use it when there is no memory for any state, or when workers should send only one bit per entry. If gradients are
    noisy, use large batches or `signum` (Bernstein et al., 2018, "signSGD: Compressed Optimisation for Non-Convex
    Problems", algorithm 1):

        p <- p - learning_rate * sign(g)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Each entry changes by the full
        learning rate at every step, so start with Adam's learning rate or less.

    Returns:
      A transformation. State: none.

    >>> import gradtx as gx
    >>> gx.sign_sgd(0.01)
    chain(scale_by_sign(), scale_by_learning_rate(learning_rate=0.01))
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@constructor
def signum(learning_rate: HyperArg, beta: HyperArg = 0.9, accumulator_dtype: Any = None) -> chain:
    """Runs sign descent on the moving average of the gradient.

    Use it in place of `sign_sgd` when gradients are noisy: the gradients are averaged before the sign is taken
    (Bernstein et al., 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", algorithm 2):

        m <- beta * m + (1 - beta) * g
        p <- p - learning_rate * sign(m)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      accumulator_dtype: Dtype in which the average is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.signum(0.01)
    chain(ema(decay=0.9, debias=False), scale_by_sign(), scale_by_learning_rate(learning_rate=0.01))
    """
    average = ema(ema.check_field("decay", beta, who="signum", name="beta"), False, accumulator_dtype)
    return chain(average, scale_by_sign(), scale_by_learning_rate(learning_rate))
