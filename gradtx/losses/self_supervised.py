"""Losses that compare embeddings of different examples.

ntxent               mean over pairs (i, j) with equal labels of log(1 + sum_k exp(s_ik - s_ij))
triplet_margin_loss  max(0, |a - p| - |a - n| + margin),   a the anchor, p the positive, n the negative

s_ij is the cosine of the embeddings i and j, divided by the temperature; k runs over the examples whose label differs
from the label of i.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.core.hyper import Limits
from gradtx.losses.arrays import axes, floats, minus, parameter, product, returned, same_shape, unlike
from gradtx.losses.regression import unit_vectors
from gradtx.losses.softmax import log_normalizer

__all__ = ["ntxent", "triplet_margin_loss"]


def ntxent(embeddings: ArrayLike, labels: ArrayLike, temperature: ArrayLike = 0.07) -> Array:
    """Computes the contrastive loss of SimCLR, which pulls embeddings of the same label together and others apart.

    Use it to learn representations from augmented views (Chen et al., 2020, "A Simple Framework for Contrastive
    Learning of Visual Representations", https://arxiv.org/abs/2002.05709). With s_ij = cosine(i, j) / temperature, the
    loss of a pair (i, j) with equal labels is

        - log (exp(s_ij) / (exp(s_ij) + sum_k exp(s_ik))),    k over the examples whose label differs from i's label

    Args:
      embeddings: One vector for each example, (examples, n). A zero vector has cosine 0 with all others.
      labels: Labels that define pairs, (examples,): examples with equal labels, such as views of one image, are
        positive pairs.
      temperature: Divisor of the cosines; a smaller temperature puts more weight on the hardest negatives. Positive;
        0.07 by default.

    Returns:
      The mean over all ordered pairs, one number, in the dtype of `embeddings` (computed in float32 or wider). 0 if
      no two labels are equal. Needs memory for examples^2 cosines.

    Raises:
      TypeError: `embeddings` does not hold real floating-point numbers.
      ValueError: the shapes do not match, or `temperature` is not positive.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> embeddings = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    >>> print(f"{gx.losses.ntxent(embeddings, jnp.array([0, 0, 1, 1]), temperature=0.5):.4f}")
    0.4302
    """
    who = "ntxent"
    (x,), dtype = floats(who, embeddings=embeddings)
    labels = jnp.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        wanted = "Give embeddings as (examples, n), and labels as (examples,)"
        raise unlike(who, "labels", labels.shape, "embeddings", x.shape, wanted)
    temperature = Limits(gt=0).check(who, "temperature", temperature, schedules=False)
    units = unit_vectors(x, (1,), float(jnp.finfo(x.dtype).eps))
    s = jnp.matmul(units, units.T, precision=lax.Precision.HIGHEST) / jnp.asarray(temperature, x.dtype)
    equal = labels[:, None] == labels[None, :]
    pairs = equal & ~jnp.eye(len(labels), dtype=bool)
    negatives = log_normalizer(jnp.where(equal, -jnp.inf, s))
    losses = jax.nn.softplus(minus(negatives[:, None], s))
    count = jnp.maximum(jnp.sum(pairs), 1).astype(x.dtype)
    return returned(jnp.sum(jnp.where(pairs, losses, 0)) / count, dtype)


def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    axis: int = -1,
    norm_degree: ArrayLike = 2,
    margin: ArrayLike = 1.0,
    eps: ArrayLike = 1e-6,
) -> Array:
    """Computes the triplet loss: 0 if an anchor is nearer to its positive than to its negative by a margin.

    Use it for embeddings whose distances should measure similarity, such as embeddings of faces (Balntas et al., 2016,
    "Learning Shallow Convolutional Feature Descriptors with Triplet Losses").

        loss = max(0, d(a, p) - d(a, n) + margin),    d(a, b) = (sum |a_i - b_i|^q + eps)^(1 / q)

    Args:
      anchors: Vectors, (..., n).
      positives: Vectors of the same shape that should be near the anchors.
      negatives: Vectors of the same shape that should be far from the anchors.
      axis: The axis of the vectors: an integer, several integers, or None for all axes.
      norm_degree: q. Positive, 2 by default for the Euclidean distance.
      margin: By how much the negative should be farther away than the positive. 1 by default.
      eps: Keeps the derivative finite if two vectors are equal. Not negative; 1e-6 by default. With 0, the
        derivative of a distance of 0 is 0.

    Returns:
      The losses, (...), in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: shapes differ (nothing is broadcast), or a number is out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> anchors, positives, negatives = jnp.array([0.0, 0.0]), jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0])
    >>> print(gx.losses.triplet_margin_loss(anchors, positives, negatives).round(4))
    2.0
    """
    who = "triplet_margin_loss"
    (a, p, n), dtype = floats(who, anchors=anchors, positives=positives, negatives=negatives)
    same_shape(who, anchors=a, positives=p, negatives=n)
    over = axes(who, axis, a.ndim)
    degree = Limits(gt=0).check(who, "norm_degree", norm_degree, schedules=False)
    eps = Limits(ge=0).check(who, "eps", eps, schedules=False)
    near, far = (_distance(minus(a, b), over, degree, jnp.asarray(eps, a.dtype)) for b in (p, n))
    return returned(jnp.maximum(minus(near, far) + parameter(who, "margin", margin, near), 0), dtype)


def _distance(d: Array, over: tuple[int, ...], degree: Any, eps: Array) -> Array:
    """Returns (sum |d|^q + eps)^(1 / q); d is scaled by the largest |d|, so that the powers stay in range."""
    floor = eps ** (1 / degree)
    largest = jnp.max(jnp.abs(d), axis=over, keepdims=True, initial=0)
    unit = lax.stop_gradient(jnp.maximum(largest, floor))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    size = d / unit
    powers = size * size if leaf.is_number(degree) and degree == 2 else jnp.abs(size) ** degree
    total = jnp.sum(powers, axis=over, keepdims=True) + (floor / unit) ** degree
    some = total != 0
    return jnp.squeeze(product(unit, jnp.where(some, jnp.where(some, total, 1) ** (1 / degree), 0)), over)
