"""Regression losses, which are functions of the error e = prediction - target, and cosine similarity.

squared_error  e^2                  huber_loss         e^2 / 2 up to |e| = delta, then linear
l2_loss        e^2 / 2              log_cosh           log cosh e

cosine_similarity  <a, b> / (|a| |b|)          cosine_distance    1 - cosine_similarity
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf, sums
from gradtx.core.hyper import Limits
from gradtx.losses.arrays import axes, floats, mask, minus, parameter, product, returned, same_shape

__all__ = [
    "cosine_distance",
    "cosine_similarity",
    "huber_loss",
    "l2_loss",
    "log_cosh",
    "squared_error",
    "unit_vectors",
]


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """Computes the squares of the errors; their mean is the mean squared error.

    Use it for regression if the errors are roughly normal. `l2_loss` is half the squared error; `huber_loss` gives
    outliers less weight.

    Args:
      predictions: An array of any shape.
      targets: An array of the same shape; zeros by default.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider). A square beyond the
      dtype's range becomes the dtype's largest number.

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.squared_error(jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])))
    [1. 4.]
    """
    errors, dtype = _errors("squared_error", predictions, targets)
    return returned(product(errors, errors), dtype)


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """Computes half the squares of the errors, so that the derivative is the error itself (Bishop, 2006, 1.1).

    Args:
      predictions: An array of any shape.
      targets: An array of the same shape; zeros by default.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.l2_loss(jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])))
    [0.5 2. ]
    """
    errors, dtype = _errors("l2_loss", predictions, targets)
    return returned(_half_square(errors), dtype)


def huber_loss(predictions: ArrayLike, targets: ArrayLike | None = None, *, delta: ArrayLike = 1.0) -> Array:
    """Computes a loss that is quadratic in small errors and linear in large errors.

    Use it for regression with outliers (Huber, 1964, "Robust Estimation of a Location Parameter",
    https://doi.org/10.1214/aoms/1177703732). Its derivative is the derivative of `l2_loss`, clipped to [-delta, delta].

        loss = c (e - c / 2),    c = clip(e, -delta, delta)

    Args:
      predictions: An array of any shape.
      targets: An array of the same shape; zeros by default.
      delta: The error at which the loss becomes linear: a number, or an array that broadcasts to `predictions`.
        Positive, 1 by default.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast), or `delta` is not positive.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.huber_loss(jnp.array([0.5, 3.0])))
    [0.125 2.5  ]
    """
    who = "huber_loss"
    errors, dtype = _errors(who, predictions, targets)
    bound = parameter(who, "delta", delta, errors, gt=0)
    near = jnp.clip(errors, -bound, bound)
    return returned(product(near, errors - near / 2), dtype)


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> Array:
    """Computes the logarithm of the hyperbolic cosine of the errors.

    It is about e^2 / 2 for small errors and |e| - log 2 for large errors: like `huber_loss`, but smooth everywhere
    (Chen et al., 2019, "Log Hyperbolic Cosine Loss Improves Variational Auto-Encoder"). Its derivative is tanh(e).

    Args:
      predictions: An array of any shape.
      targets: An array of the same shape; zeros by default.

    Returns:
      The losses, entry by entry, in the dtype of the arguments (computed in float32 or wider).

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print([f"{loss:.3f}" for loss in gx.losses.log_cosh(jnp.array([0.0, 1.0, 10.0]))])
    ['0.000', '0.434', '9.307']
    """
    errors, dtype = _errors("log_cosh", predictions, targets)
    return returned(_log_cosh(errors), dtype)


def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: ArrayLike | None = None,
) -> Array:
    """Computes the cosine of the angle between vectors: <a, b> / (|a| |b|), in [-1, 1].

    Use it if only directions matter, not lengths, as for embeddings. For all pairs of two batches, use `jax.vmap`.

    Args:
      predictions: Vectors, (..., n).
      targets: Vectors of the same shape.
      epsilon: Lower bound on the squares of |a| and |b|. Not negative, 0 by default.
      axis: The axis of the vectors: an integer, several integers, or None for all axes.
      where: Which entries to include, booleans with the shape of `predictions`; or, if their shape lacks `axis`, which
        vectors to include. All by default.

    Returns:
      The cosines, (...), in the dtype of the arguments (computed in float32 or wider). If a vector is 0, the cosine
      and its derivative are 0.

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast), or `epsilon` is negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.cosine_similarity(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[3.0, 4.0], [3.0, 4.0]])))
    [0.6 0. ]
    """
    cosines, dtype = _cosines("cosine_similarity", predictions, targets, epsilon, axis, where)
    return returned(cosines, dtype)


def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 0.0,
    axis: int | tuple[int, ...] | None = -1,
    where: ArrayLike | None = None,
) -> Array:
    """Computes one minus the cosine of the angle between vectors, in [0, 2]; it is 0 for equal directions.

    Args:
      predictions: Vectors, (..., n).
      targets: Vectors of the same shape.
      epsilon: Lower bound on the squares of the norms. Not negative, 0 by default.
      axis: The axis of the vectors: an integer, several integers, or None for all axes.
      where: Which entries to include, booleans with the shape of `predictions`; or, if their shape lacks `axis`, which
        vectors to include. All by default.

    Returns:
      The distances, (...), in the dtype of the arguments. If a vector is 0, the distance is 1 and its derivative is
      0.

    Raises:
      TypeError: an argument does not hold real floating-point numbers.
      ValueError: the shapes differ (nothing is broadcast), or `epsilon` is negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.cosine_distance(jnp.array([1.0, 0.0]), jnp.array([-2.0, 0.0])))
    2.0
    """
    cosines, dtype = _cosines("cosine_distance", predictions, targets, epsilon, axis, where)
    return returned(1 - cosines, dtype)


def unit_vectors(x: Array, over: tuple[int, ...], epsilon: ArrayLike) -> Array:
    """Divides vectors by max(|x|, sqrt(epsilon)), even if the squares of entries overflow or underflow. 0 stays 0."""
    scale, norm = (jnp.expand_dims(part, over) for part in sums.scaled_norm([x], over))
    floor = math.sqrt(epsilon) if leaf.is_number(epsilon) else jnp.sqrt(jnp.asarray(epsilon).astype(x.dtype))
    divisor = jnp.maximum(norm, floor / scale)
    some = divisor != 0
    return jnp.where(some, x / scale / jnp.where(some, divisor, 1), 0)


def _cosines(who: str, predictions: Any, targets: Any, epsilon: Any, axis: Any, where: Any) -> tuple[Array, Any]:
    (a, b), dtype = floats(who, predictions=predictions, targets=targets)
    same_shape(who, predictions=a, targets=b)
    epsilon = Limits(ge=0).check(who, "epsilon", epsilon, schedules=False)
    over = axes(who, axis, a.ndim)
    keep = mask(who, where, "predictions", a.shape, over)
    if keep is not None:
        a, b = jnp.where(keep, a, 0), jnp.where(keep, b, 0)
    return jnp.sum(unit_vectors(a, over, epsilon) * unit_vectors(b, over, epsilon), axis=over), dtype


def _errors(who: str, predictions: Any, targets: Any) -> tuple[Array, Any]:
    if targets is None:
        (errors,), dtype = floats(who, predictions=predictions)
        return errors, dtype
    (a, b), dtype = floats(who, predictions=predictions, targets=targets)
    same_shape(who, predictions=a, targets=b)
    return minus(a, b), dtype


def _half_square(e: Array) -> Array:
    return product(e / 2, e)


@jax.custom_jvp
def _log_cosh(e: Array) -> Array:
    """Returns log cosh e, computed from u = exp(-|e|).

    The formula for small errors, which keeps their precision, is log(1 + (1 - u)^2 / (2 u)). Otherwise it is log(1 +
    u^2) + |e| - log 2.
    """
    size = jnp.abs(e)
    small, less = size < 1, jnp.expm1(-size)
    rest = jnp.log1p(jnp.where(small, less * less / (2 + 2 * jnp.where(small, less, 0)), (1 + less) * (1 + less)))
    return rest + jnp.where(small, 0, size - math.log(2))


@_log_cosh.defjvp
def _log_cosh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _log_cosh(*primals), jnp.tanh(primals[0]) * tangents[0]
