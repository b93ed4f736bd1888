"""Fenchel-Young losses: every convex function that generalizes the maximum defines a loss.

    loss(s, y) = max_fun(s) - <y, s>          (plus the conjugate of max_fun at y, which does not depend on s)

With logsumexp the loss is the softmax cross entropy, with max it is the loss of the perceptron. The derivative with
respect to the scores is the gradient of `max_fun` (the prediction) minus the target (Blondel, Martins & Niculae, 2020,
"Learning with Fenchel-Young Losses", https://arxiv.org/abs/1901.02324).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.losses.arrays import floats, minus, product, returned, same_shape

__all__ = ["make_fenchel_young_loss"]


def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., Array]:
    """Makes a loss from a maximum, such as logsumexp: loss(scores, targets) = max_fun(scores) - <targets, scores>.

    Use it for structured prediction, where `max_fun` is a maximum over structures, smoothed or not.

    Args:
      max_fun: A convex function of one vector of scores that returns a number. JAX differentiates it.

    Returns:
      A function `loss(scores, targets, *args, **kwargs)`. `scores` and `targets` are (..., n); further arguments go
      to `max_fun`. It returns the losses, (...), in the dtype of the arguments (computed in float32 or wider),
      raises a TypeError if an argument does not hold real numbers, and a ValueError if the shapes differ (nothing
      is broadcast).

    Raises:
      TypeError: `max_fun` is not a function.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> from jax.scipy.special import logsumexp
    >>> loss = gx.losses.make_fenchel_young_loss(logsumexp)
    >>> print(loss(jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0])).round(4))
    0.1269
    """
    if not callable(max_fun):
        raise TypeError(f"make_fenchel_young_loss: max_fun must be a function of scores, got {max_fun!r}.")

    def fenchel_young_loss(scores: ArrayLike, targets: ArrayLike, *args: Any, **kwargs: Any) -> Array:
        who = "fenchel_young_loss"
        (s, y), dtype = floats(who, also_integers=("targets",), scores=scores, targets=targets)
        same_shape(who, scores=s, targets=y)
        if not s.ndim:
            raise ValueError(f"{who}: scores has shape (); give it an axis for the structure, the last.")
        value = jnp.vectorize(lambda row: max_fun(row, *args, **kwargs), signature="(n)->()")(s)
        return returned(minus(value, jnp.sum(product(y, s), axis=-1)), dtype)

    return fenchel_young_loss
