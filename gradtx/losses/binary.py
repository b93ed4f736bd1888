"""Losses of binary predictions with a sigmoid, p = 1 / (1 + exp(-logit)).

sigmoid_binary_cross_entropy   - w_1 y log p - w_0 (1 - y) log(1 - p)
sigmoid_focal_loss             - alpha_t (1 - p_t)^gamma log p_t
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.core.hyper import Limits
from gradtx.losses.arrays import among, floats, parameter, product, returned, same_shape, saturated, spoiled, unlike
from gradtx.losses.softmax import bounded

__all__ = ["sigmoid_binary_cross_entropy", "sigmoid_focal_loss"]


def sigmoid_binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    ignore_label: float | None = None,
) -> Array:
    """Computes the binary cross entropy of each logit and its label, 0 or 1.

    Use it for binary classification, and for labels that do not exclude each other (Goodfellow, Bengio & Courville,
    2016, "Deep Learning", 6.2.2.2).

        loss = - w_1 y log p - w_0 (1 - y) log(1 - p),    p = sigmoid(logit)

    Args:
      logits: Log odds of label 1, an array of any shape.
      labels: 0 or 1, or a probability between them, with the shape of `logits`.
      class_weights: The weights (w_0, w_1) of the labels 0 and 1, shape (2,); or a pair of weights for each entry of
        the last axis, (classes, 2). 1 by default; a w_1 above 1 compensates for a rare label 1.
      label_smoothing: Fraction s of each label that is spread over both labels: y becomes (1 - s) y + s / 2.
        In [0, 1]; 0 by default.
      ignore_label: Entries with this label, such as -1 for unknown, have loss 0 and derivative 0. None by default.

    Returns:
      The losses, with the shape of `logits`, in the dtype of the arguments (computed in float32 or wider). Integer
      labels other than 0 and 1 give NaN in traced code, such as inside `jax.jit`.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ (nothing is broadcast), a number is out of range, or (outside `jax.jit`) an integer
        label is neither 0 nor 1 nor `ignore_label`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> logits, labels = jnp.array([2.0, -1.0, 0.0]), jnp.array([1, 0, -1])
    >>> print(gx.losses.sigmoid_binary_cross_entropy(logits, labels, ignore_label=-1).round(2))
    [0.13 0.31 0.  ]
    """
    who = "sigmoid_binary_cross_entropy"
    (x, y), dtype = floats(who, also_integers=("labels",), logits=logits, labels=labels)
    same_shape(who, logits=x, labels=y)
    w0, w1 = _pair(who, class_weights, x)
    smoothing = Limits(ge=0, le=1).check(who, "label_smoothing", label_smoothing, schedules=False)
    outside = _not_binary(who, labels, ignore_label)
    a, b = ((1 - smoothing) * side + smoothing / 2 for side in (y, 1 - y))
    a, b = a * w1, b * w0
    if ignore_label is not None:
        counted = y != ignore_label
        x, a, b = (jnp.where(counted, part, 0) for part in (x, a, b))
    return returned(spoiled(_cross_entropy(x, a, b), outside), dtype)


def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
) -> Array:
    """Computes the focal loss: the binary cross entropy, scaled down if the prediction is already right.

    Use it for detection and other tasks where most examples are easy (Lin et al., 2017, "Focal Loss for Dense Object
    Detection", https://arxiv.org/abs/1708.02002). With p_t, the probability of the right label:

        loss = - alpha_t (1 - p_t)^gamma log p_t,    1 - p_t = (1 - y) p + y (1 - p)

    Args:
      logits: Log odds of label 1, an array of any shape.
      labels: 0 or 1, or a probability between them, with the shape of `logits`.
      alpha: The weight of label 1; label 0 has the weight 1 - alpha. A number, or an array that broadcasts to `logits`.
        In [0, 1]; None by default, for no weights.
      gamma: Focusing exponent: a larger `gamma` reduces the loss of easy examples more. Not negative, 2 by default; 0
        gives the cross entropy.

    Returns:
      The losses, with the shape of `logits`, in the dtype of the arguments (computed in float32 or wider). Integer
      labels other than 0 and 1 give NaN in traced code.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ, a number is out of range, or (outside `jax.jit`) an integer label is neither 0 nor 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.sigmoid_focal_loss(jnp.array([2.0, -2.0]), jnp.array([1, 1])).round(4))
    [0.0018 1.6501]
    """
    who = "sigmoid_focal_loss"
    (x, y), dtype = floats(who, also_integers=("labels",), logits=logits, labels=labels)
    same_shape(who, logits=x, labels=y)
    gamma = parameter(who, "gamma", gamma, x, ge=0)
    outside = _not_binary(who, labels, None)
    loss = _focal(x, y, jnp.asarray(gamma, x.dtype))
    if alpha is not None:
        ones = parameter(who, "alpha", alpha, x, ge=0, le=1)
        loss = loss * (ones * y + (1 - ones) * (1 - y))
    return returned(spoiled(loss, outside), dtype)


@jax.custom_jvp
def _cross_entropy(x: Array, a: Array, b: Array) -> Array:
    """Returns a log(1 + exp(-x)) + b log(1 + exp(x)); a term with weight 0 is 0."""
    terms = [jnp.where(w == 0, 0, w * jax.nn.softplus(z)) for w, z in ((a, -x), (b, x))]
    return saturated(terms[0] + terms[1], jnp.isfinite(x))


@_cross_entropy.defjvp
def _cross_entropy_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (x, a, b), (dx, da, db) = primals, tangents
    slope = b * jax.nn.sigmoid(x) - a * jax.nn.sigmoid(-x)
    return _cross_entropy(x, a, b), (slope * dx + bounded(jax.nn.softplus(-x)) * da + bounded(jax.nn.softplus(x)) * db)


@jax.custom_jvp
def _log_miss(x: Array, y: Array) -> Array:
    """Returns the logarithm of 1 - p_t = (1 - y) p + y (1 - p), finite for finite logits."""
    log_p, log_q = _logs(x)
    top = jnp.maximum(log_p, log_q)
    both = (1 - y) * jnp.exp(log_p - top) + y * jnp.exp(log_q - top)
    mixed = top + jnp.log(jnp.where((y == 0) | (y == 1), 1, both))
    return jnp.where(y == 0, log_p, jnp.where(y == 1, log_q, mixed))


@_log_miss.defjvp
def _log_miss_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    by_x, by_y = _slopes_of_log_miss(*primals)
    return _log_miss(*primals), by_x * tangents[0] + by_y * tangents[1]


def _slopes_of_log_miss(x: Array, y: Array) -> tuple[Array, Array]:
    (log_p, log_q), miss = _logs(x), _log_miss(x, y)
    # Bounded, because it is multiplied by (1 - p_t)^gamma, which is 0 where the logarithm would be infinite.
    limit = 0.8 * math.log(float(jnp.finfo(x.dtype).max))
    by_y = jnp.exp(jnp.minimum(log_q - miss, limit)) - jnp.exp(jnp.minimum(log_p - miss, limit))
    return (1 - 2 * y) * jnp.exp(log_p + log_q - miss), by_y


@jax.custom_jvp
def _focal(x: Array, y: Array, gamma: Array) -> Array:
    """Returns the cross entropy, times (1 - p_t)^gamma."""
    return product(jnp.exp(gamma * _log_miss(x, y)), _cross_entropy(x, y, 1 - y))


@_focal.defjvp
def _focal_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """Applies the product rule, multiplying a large cross entropy first by the factor that makes it small."""
    (x, y, gamma), (dx, dy, dgamma) = primals, tangents
    miss, entropy = _log_miss(x, y), bounded(_cross_entropy(x, y, 1 - y))
    by_x, by_y = _slopes_of_log_miss(x, y)
    slope = (1 - y) * jax.nn.sigmoid(x) - y * jax.nn.sigmoid(-x)
    along = (gamma * (by_x * entropy) + slope) * dx + bounded(gamma * (by_y * entropy) - x) * dy
    return _focal(x, y, gamma), jnp.exp(gamma * miss) * (along + bounded(miss * entropy) * dgamma)


def _logs(x: Array) -> tuple[Array, Array]:
    """Returns the logarithms of p and of 1 - p, finite even for infinite logits."""
    return bounded(jax.nn.log_sigmoid(x)), bounded(jax.nn.log_sigmoid(-x))


def _pair(who: str, weights: Any, x: Array) -> tuple[Any, Any]:
    """Returns the weights of the labels 0 and 1, each with the shape of the logits."""
    if weights is None:
        return 1, 1
    (weights,), _ = floats(who, also_integers=("class_weights",), class_weights=weights)
    if weights.shape not in ((2,), (*x.shape[-1:], 2)):
        wanted = "Give two weights, for the answers 0 and 1: (2,), or (classes, 2) for each entry of the last axis"
        raise unlike(who, "class_weights", weights.shape, "logits", x.shape, wanted)
    zero, one = (jnp.broadcast_to(weights[..., i].astype(x.dtype), x.shape) for i in (0, 1))
    return zero, one


def _not_binary(who: str, labels: Any, ignore_label: Any) -> Array | None:
    """Returns where traced integer labels are neither 0, 1 nor `ignore_label`; raises for concrete labels."""
    labels = labels if isinstance(labels, Array) else jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        return None
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    extra = () if ignore_label is None or not leaf.is_number(ignore_label) else (int(ignore_label),)
    return among(who, "labels", labels, (0, 1, *extra), "Pass floating labels for probabilities.")
