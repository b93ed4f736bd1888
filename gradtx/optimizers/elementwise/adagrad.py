"""AdaGrad: divides the gradient by the square root of the sum of all squared gradients.

    s_t = s_(t-1) + |g_t|^2,   s_0 = initial_accumulator_value
    u_t = g_t / sqrt(s_t + eps)      (eps_in_sqrt)
    u_t = g_t / (sqrt(s_t) + eps)    (otherwise)

Duchi, Hazan and Singer, 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", the
diagonal form. If the sum is zero, the update is zero.
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
from gradtx.core.value import flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByRssState", "adagrad", "scale_by_rss"]


class ScaleByRssState(NamedTuple):
    """The state of `scale_by_rss`.

    `sum_of_squares`: the sum of all squared gradients. `count`: the number of steps taken.
    """

    sum_of_squares: Array = per_param(start="initial_accumulator_value", real=True, signed=False)
    count: Array = counter()


class scale_by_rss(Elementwise, state=ScaleByRssState):
    """Divides the gradient by the square root of the sum of all squared gradients (rss).

    This is `adagrad` without the learning rate:

        u = g / sqrt(s + eps),    s: sum of |g|^2 over all steps

    Args:
      initial_accumulator_value: Initial value of the sum of squares; a larger value makes the first updates smaller.
        Not negative; default 0.1.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-7.
      eps_in_sqrt: Whether to add `eps` under the square root, as optax does, instead of adding it to the square root,
        as PyTorch does. Default True.

    State: one array per parameter (4 bytes per entry in float32).

    Reference: Duchi, Hazan and Singer, 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_rss(initial_accumulator_value=0.0, eps=0.0)
    >>> updates, state = tx.update(jnp.array([2.0, 0.0]), tx.init(jnp.zeros(2)))
    >>> print(updates, state.sum_of_squares)
    [1. 0.] [4. 0.]
    """

    initial_accumulator_value: Hyper = hyper(default=0.1, ge=0)
    eps: Hyper = hyper(default=1e-7, ge=0)
    eps_in_sqrt: bool = flag(default=True, kw_only=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        s = leaf.finite_sum(slots.sum_of_squares, leaf.abs_sq(g))
        root = leaf.root(s, self.eps) if self.eps_in_sqrt else leaf.root(s) + self.eps
        return g / root, slots._replace(sum_of_squares=s)


@constructor
def adagrad(
    learning_rate: HyperArg,
    initial_accumulator_value: HyperArg = 0.1,
    eps: HyperArg = 1e-7,
    *,
    eps_in_sqrt: bool = True,
) -> chain:
    """Runs AdaGrad, whose updates become smaller as squared gradients accumulate.

    Use it for sparse gradients, as in linear models and embeddings, and for convex problems. In long runs of deep
    networks the updates become too small (Duchi, Hazan and Singer, 2011, "Adaptive Subgradient Methods for Online
    Learning and Stochastic Optimization"):

        p <- p - learning_rate * g / sqrt(s + eps),    s: sum of |g|^2 over all steps

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). It is usually larger than for
        Adam, such as 0.1. Not negative.
      initial_accumulator_value: Initial value of the sum of squares; a larger value makes the first updates smaller.
        Not negative; default 0.1.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-7.
      eps_in_sqrt: Whether to add `eps` under the square root, as optax does, instead of adding it to the square root,
        as PyTorch does. Default True.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adagrad(0.1)
    chain(scale_by_rss(initial_accumulator_value=0.1, eps=1e-07), scale_by_learning_rate(learning_rate=0.1))
    """
    rule = scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt)
    return chain(rule, scale_by_learning_rate(learning_rate))
