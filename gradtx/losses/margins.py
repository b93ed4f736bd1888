"""Losses that are 0 once the score of the right class leads by a margin.

    two classes, t = -1 or 1                 many classes, k is the right class
    hinge_loss       max(0, 1 - t s)         multiclass_hinge_loss       max_j (s_j + [j != k]) - s_k
    perceptron_loss  max(0, - t s)           multiclass_perceptron_loss  max_j s_j - s_k
    sparsemax_loss   sparse_plus(- t s)      multiclass_sparsemax_loss   max_p (<p, s> + (1 - |p|^2) / 2) - s_k

s is a score. max_p is the maximum over all distributions p. sparse_plus(z) is 0 for z <= -1, z for z >= 1, and (z +
1)^2 / 4 in between.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.losses.arrays import (
    among,
    floats,
    in_range,
    minus,
    product,
    returned,
    same_shape,
    saturated,
    spoiled,
    unlike,
    whole,
)
from gradtx.projections.simplex import on_simplex

__all__ = [
    "hinge_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "perceptron_loss",
    "sparsemax_loss",
]


def hinge_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """Computes the loss of support vector machines, max(0, 1 - target * output).

    Use it for binary classification without probabilities (Cortes & Vapnik, 1995, "Support-Vector Networks"). The loss
    is 0 if the output has the sign of the target and is at least 1 in absolute value.

    Args:
      predictor_outputs: Scores of any shape; their sign is the decision.
      targets: -1 or 1, with the same shape. For labels 0 and 1 pass `2 * labels - 1`.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider). Targets other than -1
      and 1 give NaN in traced code, such as inside `jax.jit`.

    Raises:
      TypeError: an argument is complex.
      ValueError: the shapes differ (nothing is broadcast), or a target is neither -1 nor 1, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.hinge_loss(jnp.array([0.25, 3.0]), jnp.array([-1, 1])))
    [1.25 0.  ]
    """
    x, t, dtype = _signed("hinge_loss", predictor_outputs, targets)
    return returned(jnp.maximum(saturated(1 - x * t, jnp.isfinite(x)), 0), dtype)


def perceptron_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> Array:
    """Computes the loss of the perceptron, max(0, - target * output).

    Works like `hinge_loss` without a margin (Rosenblatt, 1958, "The Perceptron"): the loss is 0 for every output with
    the sign of the target.

    Args:
      predictor_outputs: Scores of any shape; their sign is the decision.
      targets: -1 or 1, with the same shape.

    Returns:
      The losses, entry by entry, in the dtype of the arguments. Other targets give NaN in traced code.

    Raises:
      TypeError: an argument is complex.
      ValueError: the shapes differ (nothing is broadcast), or a target is neither -1 nor 1, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.perceptron_loss(jnp.array([0.25, 3.0]), jnp.array([-1, 1])))
    [0.25 0.  ]
    """
    x, t, dtype = _signed("perceptron_loss", predictor_outputs, targets)
    return returned(jnp.maximum(-x * t, 0), dtype)


def sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Computes the binary sparsemax loss; its probability is exactly 0 for logits <= -1, and exactly 1 for logits >= 1.

    Use it for binary classification with probabilities that may be exactly 0 and 1 (Blondel, Martins & Niculae, 2020,
    "Learning with Fenchel-Young Losses", section 4.4). The loss is 0 if and only if the probability,
    `jax.nn.sparse_sigmoid(logits)`, equals the label.

    Args:
      logits: Scores of any shape.
      labels: 0 or 1, integers, booleans or numbers, with the same shape.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider). Labels other than 0 and
      1 give NaN in traced code, such as inside `jax.jit`.

    Raises:
      TypeError: an argument is complex.
      ValueError: the shapes differ (nothing is broadcast), or a label is neither 0 nor 1, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.sparsemax_loss(jnp.array([0.0, 2.0, 2.0]), jnp.array([1, 1, 0])))
    [0.25 0.   2.  ]
    """
    who = "sparsemax_loss"
    (x, y), dtype = floats(who, also_integers=("logits", "labels"), logits=logits, labels=labels)
    same_shape(who, logits=x, labels=y)
    x = spoiled(x, among(who, "labels", y, (0, 1), ""))
    z = jnp.where(y != 0, -x, x)
    near = (jnp.clip(z, -1, 1) + 1) / 2
    return returned(near * near + jnp.maximum(z - 1, 0), dtype)


def multiclass_hinge_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Computes the multiclass hinge loss, max_j (s_j + [j != label]) - s_label.

    Use it for classification without probabilities. The loss is 0 if the score of the right class exceeds all other
    scores by at least 1 (Crammer & Singer, 2001, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
    Machines").

    Args:
      scores: A score for each class, (..., classes). -inf masks a class.
      labels: The right class, integers in [0, classes), (...).

    Returns:
      The losses, (...), in the dtype of `scores` (computed in float32 or wider). Labels out of range give NaN in
      traced code, such as inside `jax.jit`.

    Raises:
      TypeError: `scores` is complex, or `labels` does not hold integers.
      ValueError: the shapes do not match, or a label is out of range, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.multiclass_hinge_loss(jnp.array([[3.0, 1.0, 0.0], [1.0, 1.5, 0.0]]), jnp.array([0, 0])))
    [0.  1.5]
    """
    lead, own, dtype = _leads("multiclass_hinge_loss", scores, labels)
    return returned(jnp.max(jnp.where(own, lead, lead + 1), axis=-1), dtype)


def multiclass_perceptron_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Computes the multiclass perceptron loss, max_j s_j - s_label.

    Works like `multiclass_hinge_loss` without a margin: the loss is 0 if the right class has the highest score
    (Collins, 2002, "Discriminative Training Methods for Hidden Markov Models").

    Args:
      scores: A score for each class, (..., classes). -inf masks a class.
      labels: The right class, integers in [0, classes), (...).

    Returns:
      The losses, (...), in the dtype of `scores`. Labels out of range give NaN in traced code.

    Raises:
      TypeError: `scores` is complex, or `labels` does not hold integers.
      ValueError: the shapes do not match, or a label is out of range, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.multiclass_perceptron_loss(jnp.array([[3.0, 1.0], [1.0, 1.5]]), jnp.array([0, 0])))
    [0.  0.5]
    """
    lead, _, dtype = _leads("multiclass_perceptron_loss", scores, labels)
    return returned(jnp.max(lead, axis=-1), dtype)


def multiclass_sparsemax_loss(scores: ArrayLike, labels: ArrayLike) -> Array:
    """Computes the sparsemax loss; its probabilities are the point of the simplex nearest to the scores.

    Use it for classification with sparse probabilities p = projection_simplex(scores) (Martins & Astudillo, 2016, "From
    Softmax to Sparsemax", https://arxiv.org/abs/1602.02068). The loss is 0 if the score of the right class exceeds all
    other scores by at least 1.

        loss = <p, s> + (1 - |p|^2) / 2 - s_label,    d loss / d s = p - one_hot(label)

    Args:
      scores: A score for each class, (..., classes). -inf masks a class.
      labels: The right class, integers in [0, classes), (...).

    Returns:
      The losses, (...), in the dtype of `scores` (computed in float32 or wider). Labels out of range give NaN in
      traced code, such as inside `jax.jit`.

    Raises:
      TypeError: `scores` is complex, or `labels` does not hold integers.
      ValueError: the shapes do not match, or a label is out of range, outside `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.multiclass_sparsemax_loss(jnp.array([[3.0, 1.0, 0.0], [0.5, 0.0, -2.0]]), jnp.array([0, 0])))
    [0.     0.0625]
    """
    x, labels, dtype = _scored("multiclass_sparsemax_loss", scores, labels)
    return returned(_sparsemax(x, labels), dtype)


@jax.custom_jvp
def _sparsemax(x: Array, labels: Array) -> Array:
    p = _nearest(x)
    lead = minus(x, jnp.take_along_axis(x, labels[..., None], axis=-1))
    return jnp.maximum(jnp.sum(jnp.where(p == 0, 0, product(p, lead)), axis=-1) + (1 - jnp.sum(p * p, axis=-1)) / 2, 0)


@_sparsemax.defjvp
def _sparsemax_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (x, labels), (dx, _) = primals, tangents
    return _sparsemax(x, labels), jnp.sum((_nearest(x) - _is_label(x, labels)) * dx, axis=-1)


def _nearest(x: Array) -> Array:
    one = jnp.ones((), x.dtype)
    return jnp.vectorize(lambda row: on_simplex(row, one), signature="(n)->(n)")(x)


def _is_label(x: Array, labels: Array) -> Array:
    return jax.lax.broadcasted_iota(labels.dtype, x.shape, x.ndim - 1) == labels[..., None]


def _scored(who: str, scores: Any, labels: Any) -> tuple[Array, Array, Any]:
    (x,), dtype = floats(who, also_integers=("scores",), scores=scores)
    labels = whole(who, "labels", labels)
    if not x.ndim or labels.shape != x.shape[:-1]:
        raise unlike(who, "labels", labels.shape, "scores", x.shape, "Give one label for each row of scores")
    advice = f"scores has {x.shape[-1]} classes."
    labels, outside = in_range(who, "labels", labels, range(x.shape[-1]), advice=advice)
    return spoiled(x, None if outside is None else outside[..., None]), labels, dtype


def _leads(who: str, scores: Any, labels: Any) -> tuple[Array, Array, Any]:
    """Returns each score minus the score of the right class, which class is the right one, and the result's dtype."""
    x, labels, dtype = _scored(who, scores, labels)
    lead = minus(x, jnp.take_along_axis(x, labels[..., None], axis=-1))
    return lead, _is_label(x, labels), dtype


def _signed(who: str, outputs: Any, targets: Any) -> tuple[Array, Array, Any]:
    names = ("predictor_outputs", "targets")
    (x, t), dtype = floats(who, also_integers=names, predictor_outputs=outputs, targets=targets)
    same_shape(who, predictor_outputs=x, targets=t)
    x = spoiled(x, among(who, "targets", t, (-1, 1), "For labels 0 and 1 pass 2 * labels - 1."))
    return x, t, dtype
