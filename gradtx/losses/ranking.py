"""Ranking losses: lists of scores against lists of relevances.

ranking_softmax_loss   - sum_i w_i y_i log softmax(s)_i          (ListNet)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.losses import softmax
from gradtx.losses.arrays import floats, mask, returned, same_shape, saturated

__all__ = ["ranking_softmax_loss"]


def ranking_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
) -> Array:
    """Computes the cross entropy between the relevances of a list of items and the softmax of their scores.

    Use it for ranking if lists have few relevant items (Cao et al., 2007, "Learning to Rank: From Pairwise Approach to
    Listwise Approach").

        loss = - sum_i w_i y_i log softmax(s)_i

    Args:
      logits: A score for each item, (..., items).
      labels: The relevance of each item, with the same shape. Not negative; the relevances of a list need not sum to 1.
      where: Which items exist, with the same shape. All by default.
      weights: A weight for each item, with the same shape. 1 by default.
      reduce_fn: How to combine the losses of the lists: `jnp.mean` (default), `jnp.sum`, or another function with an
        argument `where`. Lists without items are left out. None returns the loss of each list.

    Returns:
      The loss, or with `reduce_fn=None` the losses, (...), in the dtype of the arguments (computed in float32 or
      wider). The loss of a list without items is 0, and the mean over no lists is 0.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> scores = jnp.array([[2.0, 1.0, 3.0], [0.0, 1.0, 5.0]])
    >>> relevances = jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    >>> exists = jnp.array([[True, True, True], [True, True, False]])
    >>> print(gx.losses.ranking_softmax_loss(scores, relevances, where=exists, reduce_fn=None).round(2))
    [1.41 1.63]
    """
    who = "ranking_softmax_loss"
    given = {"logits": logits, "labels": labels} | ({} if weights is None else {"weights": weights})
    (x, y, *w), dtype = floats(who, also_integers=("labels", "weights"), **given)
    same_shape(who, **dict(zip(given, (x, y, *w), strict=True)))
    keep = mask(who, where, "logits", x.shape, (x.ndim - 1,))
    y = y * w[0] if w else y
    if keep is not None:
        x, y = jnp.where(keep, x, -jnp.inf), jnp.where(keep, y, 0)
    loss, lists = softmax.soft(x, y, dtype), None if keep is None else jnp.any(keep, axis=-1)
    if reduce_fn is not None:
        finite = jnp.all(jnp.isfinite(loss))
        loss = saturated(reduce_fn(loss, where=lists), finite)
        if reduce_fn is jnp.mean and lists is not None:
            loss = jnp.where(jnp.any(lists), loss, 0)
    return returned(loss, dtype)
