"""Label smoothing."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx.losses.arrays import axes, floats, mask, parameter, returned

__all__ = ["smooth_labels"]


def smooth_labels(
    labels: ArrayLike,
    alpha: ArrayLike,
    *,
    axis: int | tuple[int, ...] | None = -1,
    where: ArrayLike | None = None,
) -> Array:
    """Spreads a fraction of each label evenly over all classes: (1 - alpha) * labels + alpha / classes.

    Use it for the labels of a cross entropy, to avoid overconfident predictions (Szegedy et al., 2016, "Rethinking the
    Inception Architecture for Computer Vision"; Müller et al., 2019, "When Does Label Smoothing Help?").
    `gx.losses.softmax_cross_entropy` and similar losses smooth the labels themselves if you pass `label_smoothing`.

    Args:
      labels: Distributions over classes, such as one-hot labels, (..., classes).
      alpha: The fraction; 0.1 is usual. In [0, 1].
      axis: The axis of the classes: an integer, several integers, or None for all axes.
      where: Booleans with the shape of `labels` choose the classes that exist; booleans whose shape lacks `axis` choose
        the rows. All by default; entries that are left out become 0.

    Returns:
      Labels of the same shape and dtype.

    Raises:
      TypeError: `labels` does not hold real floating-point numbers.
      ValueError: `alpha` is out of range, or the shape of `where` does not match.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.smooth_labels(jnp.array([0.0, 1.0]), 0.1))
    [0.05 0.95]
    """
    who = "smooth_labels"
    (y,), dtype = floats(who, labels=labels)
    alpha = parameter(who, "alpha", alpha, y, ge=0, le=1)
    over = axes(who, axis, y.ndim)
    keep = mask(who, where, "labels", y.shape, over)
    if keep is None:
        return returned((1 - alpha) * y + alpha / max(math.prod(y.shape[i] for i in over), 1), dtype)
    classes = jnp.maximum(jnp.sum(keep, axis=over, keepdims=True), 1).astype(y.dtype)
    return returned(jnp.where(keep, (1 - alpha) * y + alpha / classes, 0), dtype)
