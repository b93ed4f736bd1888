"""Cross entropies of rows of logits, the basis of all losses with a softmax.

    hard(x, k) = log sum_j exp(x_j) - x_k
    soft(x, y) = sum_j y_j (log sum_i exp(x_i) - x_j),    0 log 0 = 0

A logit of -inf masks a class: its probability is 0. A row of only -inf has loss 0. The derivatives are defined by hand,
because the derivatives that JAX computes are NaN at -inf. Higher derivatives work as well.
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
    """Returns the largest logit, exp(logits - largest), the sum of these, and whether any class is not masked.

    For a row of only -inf, the largest logit is replaced with 0 and the sum with 1.
    """
    top = lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True, initial=-jnp.inf))
    top = jnp.where(top == -jnp.inf, 0, top)
    terms = jnp.exp(x - top)
    total = jnp.sum(terms, axis=-1, keepdims=True)
    some = total != 0
    return top, terms, jnp.where(some, total, 1), some


def probabilities(x: Array) -> Array:
    """Returns the softmax of rows; zeros for a row of only -inf."""
    _, terms, total, _ = _exponentials(x)
    return terms / total


@jax.custom_jvp
def log_normalizer(x: Array) -> Array:
    """Returns log sum exp of each row; -inf, with derivative 0, for a row of only -inf."""
    top, _, total, some = _exponentials(x)
    return jnp.squeeze(jnp.where(some, top + jnp.log(total), -jnp.inf), -1)


@log_normalizer.defjvp
def _log_normalizer_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_normalizer(*primals), jnp.sum(probabilities(*primals) * tangents[0], axis=-1)


@jax.custom_jvp
def hard(x: Array, labels: Array) -> Array:
    """Returns the cross entropy of each row with an integer label, which must be in range."""
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
    """Returns the cross entropy of each row with a weight y_j for each class.

    Derivatives with respect to the weights are kept within the finite range of `dtype`.
    """
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
    """Returns half of - log softmax, because the difference of two extreme logits may overflow."""
    return jnp.log(total) / 2 - (x / 2 - top / 2)


def share(x: Array) -> Array:
    """Returns the uniform distribution over the classes of each row that are not masked."""
    here = x != -jnp.inf
    return here / jnp.maximum(jnp.sum(here, axis=-1, keepdims=True), 1).astype(x.dtype)


def bounded(x: Array, dtype: Any = None) -> Array:
    """Replaces infinity in a coefficient with the dtype's largest number, so that 0 times the coefficient is 0."""
    bound = float(jnp.finfo(x.dtype if dtype is None else dtype).max)
    return jnp.clip(x, -bound, bound)
