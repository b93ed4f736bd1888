"""Cross entropies with a softmax.

    loss = - sum_j w_j y_j log softmax(logits)_j        (Goodfellow, Bengio & Courville, 2016, "Deep Learning", 6.2.2)

y is the label as a distribution over the classes (smoothed with `label_smoothing`), and w_j the weight of class j. 0
log 0 is 0: a logit of -inf masks a class, which adds nothing to the loss unless the label has this class.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx.core.hyper import Limits
from gradtx.losses import softmax
from gradtx.losses.arrays import (
    axes,
    floats,
    in_range,
    mask,
    parameter,
    product,
    returned,
    rows,
    same_shape,
    saturated,
    spoiled,
    unlike,
    whole,
)

__all__ = [
    "class_labels",
    "class_numbers",
    "integer_rows",
    "poly_loss_cross_entropy",
    "safe_softmax_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]

Axis = int | tuple[int, ...] | None


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
) -> Array:
    """Computes the cross entropy of logits with labels that are distributions over the classes.

    Use it for labels such as one-hot vectors, mixed labels or the predictions of a teacher. For integer labels,
    `softmax_cross_entropy_with_integer_labels` needs less memory.

        loss = - sum_j w_j y_j log softmax(logits)_j

    Args:
      logits: Unnormalized log probabilities, (..., classes). -inf masks a class.
      labels: Distributions over the classes (not negative, with sum 1), with the shape of `logits`.
      axis: The axis of the classes: an integer, several integers, or None for all axes.
      where: Booleans with the shape of `logits` choose the classes to include; booleans whose shape lacks `axis` choose
        the rows. All by default. Entries that are left out may be NaN.
      class_weights: A weight for each class, (classes,). 1 by default. The losses are not normalized by the weights:
        for a weighted mean, divide the sum of the losses by the sum of the labels' weights.
      label_smoothing: Fraction of each label that is spread evenly over the classes that are not masked (Szegedy et
        al., 2016, "Rethinking the Inception Architecture for Computer Vision"). In [0, 1], 0 by default; 0.1 is
        usual.

    Returns:
      The losses, in the dtype of the arguments (computed in float32 or wider). Their shape is the shape of `logits`
      with `axis` removed. A row in which all classes are masked has loss 0.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ (nothing is broadcast), or a number is out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> logits = jnp.array([[2.0, 0.0, -jnp.inf], [0.0, 1.0, 1.0]])
    >>> print(gx.losses.softmax_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])).round(4))
    [0.1269 0.862 ]
    """
    who = "softmax_cross_entropy"
    x, y, dtype = _rows(who, logits, labels, axis, where)
    return returned(softmax.soft(x, _targets(who, x, y, class_weights, label_smoothing), dtype), dtype)


def safe_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
) -> Array:
    """Computes the same as `softmax_cross_entropy`; exists for code that uses optax's function of this name.

    In gradtx, `softmax_cross_entropy` already treats 0 log 0 as 0.

    Args:
      logits: Unnormalized log probabilities, (..., classes). -inf masks a class.
      labels: Distributions over the classes, with the shape of `logits`.
      class_weights: A weight for each class, (classes,). 1 by default.
      label_smoothing: Fraction of each label that is spread evenly over the classes that are not masked. In [0, 1].

    Returns:
      The losses, (...), in the dtype of the arguments.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ (nothing is broadcast), or a number is out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.safe_softmax_cross_entropy(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, 0.0])))
    0.0
    """
    who = "safe_softmax_cross_entropy"
    x, y, dtype = _rows(who, logits, labels, -1, None)
    return returned(softmax.soft(x, _targets(who, x, y, class_weights, label_smoothing), dtype), dtype)


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    where: ArrayLike | None = None,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    ignore_label: int | None = None,
) -> Array:
    """Computes the cross entropy of logits with integer labels, the indices of the right classes.

    Use it for classification and language models. If the logits of all tokens need too much memory, use
    `chunked_softmax_cross_entropy_with_integer_labels`.

        loss = log sum_j exp(logits_j) - logits_label

    Args:
      logits: Unnormalized log probabilities, (..., classes). -inf masks a class.
      labels: The right class of each row, integers in [0, classes). Their shape is the shape of `logits` with `axis`
        removed.
      axis: The axis of the classes, an integer or several. Several axes are flattened into one, and a label is an index
        into the flat axis.
      where: Which classes or rows to include, booleans; see `softmax_cross_entropy`. All by default. If the label's
        class is left out, its probability is 0 and the loss is infinite.
      class_weights: A weight for each class, (classes,): the loss of a row is multiplied by the weight of its
        label. 1 by default.
      label_smoothing: Fraction of each label that is spread evenly over the classes; see `softmax_cross_entropy`.
      ignore_label: Rows with this label have loss 0 and derivative 0, such as -100 for padding. None by default.

    Returns:
      The losses, with the shape of `labels`, in the dtype of `logits` (computed in float32 or wider). Labels out of
      range give NaN in traced code, such as inside `jax.jit`.

    Raises:
      TypeError: `logits` does not hold floating-point numbers, or `labels` does not hold integers.
      ValueError: shapes do not match, a number is out of range, or (outside `jax.jit`) a label is out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> logits = jnp.array([[2.0, 0.0, -jnp.inf], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    >>> labels = jnp.array([0, 2, -100])
    >>> print(gx.losses.softmax_cross_entropy_with_integer_labels(logits, labels, ignore_label=-100).round(4))
    [0.1269 0.862  0.    ]
    """
    who = "softmax_cross_entropy_with_integer_labels"
    (x,), dtype = floats(who, logits=logits)
    over = _class_axes(who, axis, x.ndim)
    keep = mask(who, where, "logits", x.shape, over)
    x = rows(x, over)
    counted: Any = True
    if keep is not None:
        x, counted = jnp.where(rows(keep, over), x, -jnp.inf), jnp.any(keep, axis=over)
    weights, smoothing = class_numbers(who, class_weights, label_smoothing, x.shape[-1], x.dtype)
    labels, ignored, outside = class_labels(who, labels, x.shape, ignore_label, counted)
    return returned(spoiled(integer_rows(x, labels, ignored, weights, smoothing), outside), dtype)


def _class_axes(who: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Returns the axes of the classes, counted from 0."""
    if axis is None:
        raise ValueError(f"{who}: axis must be an integer or a tuple of integers, got None: labels need a class axis.")
    return axes(who, axis, ndim)


def integer_rows(x: Array, labels: Array, ignored: Array | None, weights: Array | None, smoothing: Any) -> Array:
    """Returns the cross entropy of each row of logits; the labels must be in range, and `smoothing` may be None."""
    if ignored is not None:
        x = jnp.where(ignored[..., None], -jnp.inf, x)
    loss = softmax.hard(x, labels)
    if weights is not None:
        loss = product(weights[labels], loss)
    if smoothing is None:
        return loss
    spread = softmax.share(x) if weights is None else softmax.share(x) * _along_rows(weights, x.ndim)
    loss = product(1 - smoothing, loss) + product(smoothing, softmax.soft(x, spread, x.dtype))
    possible = jnp.squeeze(jnp.isfinite(jnp.take_along_axis(x, labels[..., None], axis=-1)), -1)
    return saturated(loss, possible)


def class_labels(
    who: str, labels: ArrayLike, shape: tuple[int, ...], ignore_label: int | None, counted: Any = True
) -> tuple[Array, Array | None, Array | None]:
    """Returns labels clipped to the range of the classes, which labels to ignore, and which were out of range.

    The second result is None without `ignore_label`. The third result is None for concrete labels, which raise a
    ValueError if they are out of range.
    """
    labels, classes = whole(who, "labels", labels), shape[-1]
    if labels.shape != shape[:-1]:
        wanted = "Give one label for each row"
        raise unlike(who, "labels", labels.shape, "the batch", shape[:-1], wanted)
    advice, ignored = f"There are {classes} classes. To leave rows out, name their label: ignore_label=-100.", None
    if ignore_label is not None:
        ignored = labels == checks.integer(who, "ignore_label", ignore_label, ge=-(2**31))
        counted = counted & ~ignored
        advice = f"There are {classes} classes, and ignore_label is {ignore_label}."
    labels, outside = in_range(who, "labels", labels, range(classes), counted=counted, advice=advice)
    return labels, ignored, outside


def class_numbers(
    who: str, class_weights: ArrayLike | None, label_smoothing: ArrayLike, classes: int, dtype: Any
) -> tuple[Array | None, Any]:
    """Checks the class weights and the fraction for label smoothing; returns None for each that changes nothing."""
    part = Limits(ge=0, le=1).check(who, "label_smoothing", label_smoothing, schedules=False)
    part = None if leaf.is_number(part) and part == 0 else part
    if class_weights is None:
        return None, part
    (weights,), _ = floats(who, also_integers=("class_weights",), class_weights=class_weights)
    if weights.shape != (classes,):
        wanted = "Give one weight for each class"
        raise unlike(who, "class_weights", weights.shape, "the axis of the classes", (classes,), wanted)
    return weights.astype(dtype), part


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 2.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> Array:
    """Computes PolyLoss: the cross entropy plus `epsilon` times the expected probability of a wrong class.

    Use it instead of the cross entropy if you can tune another hyperparameter. It adjusts the first term of the cross
    entropy's expansion in powers of 1 - p (Leng et al., 2022, "PolyLoss: A Polynomial Expansion Perspective of
    Classification Loss Functions", https://arxiv.org/abs/2204.12511, Poly-1):

        loss = - sum_j y_j log p_j + epsilon sum_j y_j (1 - p_j),    p = softmax(logits)

    Args:
      logits: Unnormalized log probabilities, (..., classes). -inf masks a class.
      labels: Distributions over the classes, with the shape of `logits`.
      epsilon: The coefficient. A positive `epsilon` raises the gradient of examples that are nearly right. 2 by
        default, which the paper uses for image classification; the paper uses -1 for detection and segmentation.
      axis: The axis of the classes: an integer, several integers, or None for all axes.
      where: Which classes or rows to include, booleans; see `softmax_cross_entropy`. All by default.

    Returns:
      The losses, in the dtype of the arguments. Their shape is the shape of `logits` with `axis` removed.

    Raises:
      TypeError: `logits` does not hold floating-point numbers.
      ValueError: shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.poly_loss_cross_entropy(jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0])).round(4))
    0.3653
    """
    who = "poly_loss_cross_entropy"
    x, y, dtype = _rows(who, logits, labels, axis, where)
    loss = softmax.soft(x, y, dtype)
    epsilon = parameter(who, "epsilon", epsilon, loss)
    alive = jnp.any(x != -jnp.inf, axis=-1)
    rest = jnp.sum(y * (1 - softmax.probabilities(x)), axis=-1)
    return returned(loss + jnp.where(alive, epsilon * rest, 0), dtype)


def _rows(who: str, logits: Any, labels: Any, axis: Axis, where: Any) -> tuple[Array, Array, Any]:
    """Returns logits and labels as rows, in which entries that `where` leaves out are masked."""
    (x, y), dtype = floats(who, also_integers=("labels",), logits=logits, labels=labels)
    same_shape(who, logits=x, labels=y)
    over = axes(who, axis, x.ndim)
    keep = mask(who, where, "logits", x.shape, over)
    x, y = rows(x, over), rows(y, over)
    if keep is not None:
        keep = rows(keep, over)
        x, y = jnp.where(keep, x, -jnp.inf), jnp.where(keep, y, 0)
    return x, y, dtype


def _along_rows(weights: Array, ndim: int) -> Array:
    return jnp.expand_dims(weights, tuple(range(ndim - 1)))


def _targets(who: str, x: Array, y: Array, class_weights: Any, label_smoothing: Any) -> Array:
    """Returns the label distributions, smoothed and multiplied by the class weights."""
    weights, part = class_numbers(who, class_weights, label_smoothing, x.shape[-1], x.dtype)
    y = y if part is None else (1 - part) * y + part * softmax.share(x)
    return y if weights is None else y * _along_rows(weights, x.ndim)
