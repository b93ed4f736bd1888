"""Optimistic methods: the gradient, and its change since the last step once more.

    u_t = (alpha + beta) * g_t - beta * g_(t-1),   g_0 = g_1

Daskalakis et al., 2018, "Training GANs with Optimism", and Mokhtari, Ozdaglar and Pattathil, 2019, "A Unified
Analysis of Extra-gradient and Optimistic Gradient Methods for Saddle Point Problems". Optimistic Adam applies this
to Adam's direction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = [
    "ScaleByOptimisticGradientState",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "scale_by_optimistic_gradient",
]


class ScaleByOptimisticGradientState(NamedTuple):
    """The steps taken, and the last gradient."""

    count: Array = counter()
    previous_gradient: Array = per_param()


class scale_by_optimistic_gradient(Elementwise, state=ScaleByOptimisticGradientState):
    """The optimistic gradient, for any finite `alpha` and `beta`. Near the dtype's largest number it overflows.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_optimistic_gradient()
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (2.0, 3.0):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(updates)
    [4.]
    """

    alpha: Hyper = hyper(default=1.0)
    beta: Hyper = hyper(default=1.0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Whether it is the first step."""
        return t == 1, numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        last = jnp.where(shared, g, slots.previous_gradient)
        return g * (self.alpha + self.beta) - last * self.beta, slots._replace(previous_gradient=g)


@constructor
def optimistic_gradient_descent(learning_rate: HyperArg, alpha: HyperArg = 1.0, beta: HyperArg = 1.0) -> chain:
    """Optimistic gradient descent, for games and saddle points. State: one array per parameter.

    >>> import gradtx as gx
    >>> gx.optimistic_gradient_descent(0.1)
    chain(scale_by_optimistic_gradient(alpha=1.0, beta=1.0), scale_by_learning_rate(learning_rate=0.1))
    """
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


@constructor
def optimistic_adam_v2(
    learning_rate: HyperArg,
    *,
    alpha: HyperArg = 1.0,
    beta: HyperArg = 1.0,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    nesterov: bool = True,
) -> chain:
    """Optimistic Adam. State: three arrays per parameter.

    >>> import gradtx as gx
    >>> gx.optimistic_adam_v2(1e-3).links[1]
    scale_by_optimistic_gradient(alpha=1.0, beta=1.0)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
