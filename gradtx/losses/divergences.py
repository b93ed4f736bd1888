"""Kullback-Leibler divergences between a prediction q and a target p.

    kl_divergence              sum p (log p - log q)
    generalized_kl_divergence  sum p (log p - log q) - p + q        for p and q whose sums are not 1

0 log 0 is 0: an entry whose target is 0 adds nothing to the sum of p (log p - log q), even if its prediction is 0. The
derivative with respect to a target of exactly 0 would be infinite, and is set to 0.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.losses.arrays import axes, floats, mask, minus, returned, same_shape, saturated

__all__ = [
    "convex_kl_divergence",
    "generalized_kl_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
]

Axis = int | tuple[int, ...] | None


def kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """Computes the Kullback-Leibler divergence of the prediction q from the target p, sum p (log p - log q).

    Use it to learn a distribution, such as the predictions of a teacher (Kullback & Leibler, 1951, "On Information and
    Sufficiency"). The divergence is the cross entropy minus the entropy of the target, so its minimum is 0.

    Args:
      log_predictions: Logarithms of the predicted probabilities, (..., n), as from `jax.nn.log_softmax`. May be
        -inf.
      targets: Probabilities of the target, with the same shape. May be 0.
      axis: The axis of the distribution: an integer, several integers, or None for all axes.
      where: Which entries to include, booleans with the shape of `log_predictions`; or, if their shape lacks `axis`,
        which distributions to include. All by default.

    Returns:
      The divergences, (...), in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.kl_divergence(jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.array([0.25, 0.75, 0.0])).round(4))
    0.1308
    """
    q, p, over, dtype = _given("kl_divergence", log_predictions, "targets", targets, axis, where, 0.0)
    return returned(_total(_terms(q, p), q, p, over), dtype)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike, log_targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """Computes the Kullback-Leibler divergence from log targets, sum exp(log p) (log p - log q).

    Works like `kl_divergence` for targets given as log probabilities; probabilities too small to represent cause no
    error.

    Args:
      log_predictions: Logarithms of the predicted probabilities, (..., n). May be -inf.
      log_targets: Logarithms of the target's probabilities, with the same shape. May be -inf.
      axis: The axis of the distribution: an integer, several integers, or None for all axes.
      where: Which entries to include, booleans with the shape of `log_predictions`; or, if their shape lacks `axis`,
        which distributions to include. All by default.

    Returns:
      The divergences, (...), in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> q, p = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.log(jnp.array([0.25, 0.75, 0.0]))
    >>> print(gx.losses.kl_divergence_with_log_targets(q, p).round(4))
    0.1308
    """
    who = "kl_divergence_with_log_targets"
    q, p, over, dtype = _given(who, log_predictions, "log_targets", log_targets, axis, where, -jnp.inf)
    some = p != -jnp.inf
    safe = jnp.where(some, p, 0)
    weight = jnp.where(some, jnp.exp(safe), 0)
    # If exp(log p) underflows to 0, the product is 0, whatever the other factor is.
    terms = jnp.where(weight == 0, 0, weight * minus(safe, jnp.where(weight == 0, 0, q)))
    return returned(_total(terms, q, weight, over), dtype)


def generalized_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    """Computes the Kullback-Leibler divergence of amounts that do not sum to 1: sum p (log p - log q) - p + q.

    Use it for counts and other unnormalized targets. It is the Bregman divergence of x log x - x (Bregman, 1967,
    https://doi.org/10.1016/0041-5553(67)90040-7), convex in q, and 0 only where q = p.

    Args:
      log_predictions: Logarithms of the predicted amounts, (..., n). May be -inf.
      targets: The target's amounts, with the same shape. Not negative.
      axis: The axis of the amounts: an integer, several integers, or None for all axes.
      where: Which entries to include, booleans with the shape of `log_predictions`; or, if their shape lacks `axis`,
        which rows to include. All by default.

    Returns:
      The divergences, (...), in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.generalized_kl_divergence(jnp.log(jnp.array([2.0, 1.0])), jnp.array([1.0, 0.0])).round(4))
    1.3069
    """
    who = "generalized_kl_divergence"
    q, p, over, dtype = _given(who, log_predictions, "targets", targets, axis, where, 0.0, masked=-jnp.inf)
    return returned(_total(_terms(q, p) + (_exp(q) - p), q, p, over), dtype)


convex_kl_divergence = generalized_kl_divergence


def _given(
    who: str, q: Any, name: str, p: Any, axis: Axis, where: Any, nothing: float, masked: float = 0.0
) -> tuple[Array, Array, tuple[int, ...], Any]:
    """Returns both arrays; entries that `where` leaves out are replaced with values that contribute nothing."""
    (q, p), dtype = floats(who, **{"log_predictions": q, name: p})
    same_shape(who, **{"log_predictions": q, name: p})
    over = axes(who, axis, q.ndim)
    keep = mask(who, where, "log_predictions", q.shape, over)
    if keep is not None:
        q, p = jnp.where(keep, q, masked), jnp.where(keep, p, nothing)
    return q, p, over, dtype


def _terms(q: Array, p: Array) -> Array:
    """Returns the terms p (log p - log q), and 0 where p is 0."""
    some = p != 0
    return jnp.where(some, p * minus(jnp.log(jnp.where(some, p, 1)), jnp.where(some, q, 0)), 0)


def _total(terms: Array, q: Array, weight: Array, over: tuple[int, ...]) -> Array:
    """Returns the sum of the terms; infinite only if q is 0 for an entry where p is positive."""
    fine = (weight == 0) | (jnp.isfinite(q) & jnp.isfinite(weight))
    return saturated(jnp.sum(terms, axis=over), jnp.all(fine, axis=over))


@jax.custom_jvp
def _exp(x: Array) -> Array:
    """Returns exp(x), limited to about the dtype's largest number."""
    return jnp.exp(jnp.minimum(x, _largest_exponent(x.dtype)))


@_exp.defjvp
def _exp_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _exp(*primals), _exp(*primals) * tangents[0]


def _largest_exponent(dtype: Any) -> float:
    info = jnp.finfo(dtype)
    return math.log(float(info.max)) * (1 - 2 * float(info.eps))
