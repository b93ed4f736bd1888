"""Cross entropies of rows of logits, on which the losses with a softmax build.

    hard(x, k) = log sum_j exp(x_j) - x_k
    soft(x, y) = sum_j y_j (log sum_i exp(x_i) - x_j),    0 log 0 = 0

A logit of -inf stands for a class that is masked: its probability is 0. A row that is all -inf has loss 0. The
derivatives are defined here, because JAX's own are NaN at -inf; they can be differentiated again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.losses.arrays import minus, saturated

__all__ = ["bounded", "hard", "log_normalizer", "probabilities", "share", "soft"]


def _exponentials(x: Array) -> tuple[Array, Array, Array, Array]:
    """Returns the largest logit, exp(logits - largest), their sum (1 if it is 0), and whether the row has any
    class.
    """
    top = lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True, initial=-jnp.inf))
    top = jnp.where(top == -jnp.inf, 0, top)
    terms = jnp.exp(x - top)
    total = jnp.sum(terms, axis=-1, keepdims=True)
    some = total != 0
    return top, terms, jnp.where(some, total, 1), some


def probabilities(x: Array) -> Array:
    """Returns the softmax of rows; zeros for a row that is all -inf."""
    _, terms, total, _ = _exponentials(x)
    return terms / total


@jax.custom_jvp
def log_normalizer(x: Array) -> Array:
    """Returns the logarithm of the sum of exp over rows; -inf, with derivative 0, for a row that is all -inf."""
    top, _, total, some = _exponentials(x)
    return jnp.squeeze(jnp.where(some, top + jnp.log(total), -jnp.inf), -1)


@log_normalizer.defjvp
def _log_normalizer_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_normalizer(*primals), jnp.sum(probabilities(*primals) * tangents[0], axis=-1)


@jax.custom_jvp
def hard(x: Array, labels: Array) -> Array:
    """The cross entropy with integer labels in range."""
    top, _, total, some = _exponentials(x)
    label = jnp.take_along_axis(x, labels[..., None], axis=-1)
    return jnp.squeeze(jnp.where(some, jnp.log(total) - minus(label, top), 0), -1)


@hard.defjvp
def _hard_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, labels), (dx, _) = primals, tangents
    _, terms, total, some = _exponentials(x)
    one_hot = lax.broadcasted_iota(labels.dtype, x.shape, x.ndim - 1) == labels[..., None]
    return hard(x, labels), jnp.sum((terms / total - (one_hot & some)) * dx, axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def soft(x: Array, y: Array, dtype: Any) -> Array:
    """The cross entropy with a weight for each class; derivatives by the weights are within the range of `dtype`."""
    top, _, total, some = _exponentials(x)
    used = some & (y != 0)
    terms = jnp.where(used, y * _half(x, top, total), 0)
    impossible = jnp.any(used & ~jnp.isfinite(x), axis=-1)
    return saturated(2 * jnp.sum(terms, axis=-1), ~impossible)


@soft.defjvp
def _soft_jvp(dtype: Any, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, y), (dx, dy) = primals, tangents
    top, terms, total, some = _exponentials(x)
    by_x = terms / total * jnp.sum(y, axis=-1, keepdims=True) - y
    by_y = bounded(2 * _half(x, top, total), dtype)
    return soft(x, y, dtype), jnp.sum(jnp.where(some, by_x * dx + by_y * dy, 0), axis=-1)


def _half(x: Array, top: Array, total: Array) -> Array:
    """Returns half of - log softmax: the difference of two extreme logits may overflow."""
    return jnp.log(total) / 2 - (x / 2 - top / 2)


def share(x: Array) -> Array:
    """The uniform distribution over the classes of each row that are not masked."""
    here = x != -jnp.inf
    return here / jnp.maximum(jnp.sum(here, axis=-1, keepdims=True), 1).astype(x.dtype)


def bounded(x: Array, dtype: Any = None) -> Array:
    """Replaces infinity in the coefficient of a tangent by the dtype's largest number, so that 0 times it is 0."""
    bound = float(jnp.finfo(x.dtype if dtype is None else dtype).max)
    return jnp.clip(x, -bound, bound)
