"""Optimistic methods: add the change of the gradient since the previous step to the gradient.

    u_t = (alpha + beta) * g_t - beta * g_(t-1),   g_0 = g_1

Daskalakis et al., 2018, "Training GANs with Optimism", and Mokhtari, Ozdaglar and Pattathil, 2019, "A Unified Analysis
of Extra-gradient and Optimistic Gradient Methods for Saddle Point Problems". Optimistic Adam applies this to Adam's
update.
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
    """The state of `scale_by_optimistic_gradient`: the number of steps, and the previous gradient."""

    count: Array = counter()
    previous_gradient: Array = per_param()


class scale_by_optimistic_gradient(Elementwise, state=ScaleByOptimisticGradientState):
    """Adds the change of the gradient since the previous step to the gradient.

    The sum predicts the next gradient. In games and at saddle points this keeps gradient descent from circling around
    the solution:

        u = (alpha + beta) * g - beta * g_previous

    Args:
      alpha: Factor of the gradient. Any number. Default 1.
      beta: Factor of the change since the previous step; 0 gives plain gradient descent. Any number. Default 1.

    State: one array per parameter (4 bytes per entry in float32). Gradients close to the largest number of the dtype
      overflow.

    Reference: Daskalakis et al., 2018, "Training GANs with Optimism".

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
        """Returns whether this is the first step."""
        return t == 1, numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        last = jnp.where(shared, g, slots.previous_gradient)
        return g * (self.alpha + self.beta) - last * self.beta, slots._replace(previous_gradient=g)


@constructor
def optimistic_gradient_descent(learning_rate: HyperArg, alpha: HyperArg = 1.0, beta: HyperArg = 1.0) -> chain:
    """Runs optimistic gradient descent, for games and saddle points.

    Use it if plain gradient descent circles around the solution, as in zero-sum games (Daskalakis et al., 2018,
    "Training GANs with Optimism"):

        p <- p - learning_rate * ((alpha + beta) * g - beta * g_previous)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      alpha: Factor of the gradient. Any number. Default 1.
      beta: Factor of the change since the previous step; 0 gives plain gradient descent. Any number. Default 1.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32).

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
    """Runs optimistic Adam, for games such as GANs.

    Use it in place of Adam when two networks train against each other. With Adam's update a (Daskalakis et al., 2018,
    "Training GANs with Optimism"):

        p <- p - learning_rate * ((alpha + beta) * a - beta * a_previous)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      alpha: Factor of Adam's update. Any number. Default 1.
      beta: Factor of the change of Adam's update since the previous step; 0 gives plain Adam. Any number. Default 1.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default True.

    Returns:
      A transformation. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.optimistic_adam_v2(1e-3).links[1]
    scale_by_optimistic_gradient(alpha=1.0, beta=1.0)
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_optimistic_gradient(alpha, beta),
        scale_by_learning_rate(learning_rate),
    )
