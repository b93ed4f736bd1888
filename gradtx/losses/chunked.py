"""The cross entropy of a language model's head, without the logits of all tokens at once.

    loss_t = log sum_j exp(x_t . w_j) - x_t . w_label,      x the features of token t, w the rows of the embedding

Logits of all tokens are by far the largest array of a language model's step: tokens times words. Here a scan takes some
tokens at a time, and its backward pass computes their logits again (Chen et al., 2016, "Training Deep Nets with
Sublinear Memory Cost", https://arxiv.org/abs/1604.06174). So a step has four products of features and embedding in
place of three. The derivative by the embedding is summed over chunks in float32 or wider.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.losses.arrays import floats, returned, spoiled, unlike
from gradtx.losses.cross_entropy import class_labels, class_numbers, integer_rows

__all__ = ["chunked_softmax_cross_entropy_with_integer_labels"]


def chunked_softmax_cross_entropy_with_integer_labels(
    features: ArrayLike,
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    chunk_size: int = 256,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    ignore_label: int | None = None,
) -> Array:
    """The cross entropy of the logits `features @ embedding.T`, for some tokens at a time.

    For language models, whose logits need more memory than all else in a step. Value and derivatives are those of
    `softmax_cross_entropy_with_integer_labels`; a step has one more product of features and embedding.

    Args:
      features: What the head sees of each token, (..., n).
      embedding: A row for each word, (words, n). For the kernel of a dense layer, (n, words), pass `kernel.T`.
      labels: The right word of each token, integers in [0, words), (...).
      chunk_size: How many tokens have logits at a time: chunk_size * words numbers, a few times over. 256 by default;
        larger chunks may be faster on an accelerator.
      class_weights: A weight for each word, (words,). 1 by default.
      label_smoothing: Part of each label that is spread evenly over all words. In [0, 1], 0 by default.
      ignore_label: Tokens with this label have loss 0 and derivative 0, such as -100 for padding. None by default.

    Returns:
      The losses, (...), in the dtype of the arguments. Logits are computed by products in that dtype, summed in
      float32 or wider, and used in float32 or wider. Labels out of range give NaN where they are traced.

    Raises:
      TypeError: `features` or `embedding` holds no floating numbers, or `labels` no integers.
      ValueError: shapes do not fit, a number is out of range, or a label is, outside of `jax.jit`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> features, embedding = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> labels = jnp.array([0, 1])
    >>> print(gx.losses.chunked_softmax_cross_entropy_with_integer_labels(features, embedding, labels).round(4))
    [0.862  0.7586]
    """
    who = "chunked_softmax_cross_entropy_with_integer_labels"
    (x, w), dtype = floats(who, features=features, embedding=embedding)
    if not x.ndim or w.ndim != 2 or w.shape[1] != x.shape[-1]:
        wanted = "Give features as (..., n) and embedding as (words, n)"
        raise unlike(who, "embedding", w.shape, "features", x.shape, wanted)
    size = checks.integer(who, "chunk_size", chunk_size, ge=1)
    words = w.shape[0]
    weights, smoothing = class_numbers(who, class_weights, label_smoothing, words, w.dtype)
    labels, ignored, outside = class_labels(who, labels, (*x.shape[:-1], words), ignore_label)
    ignored = jnp.zeros(labels.shape, bool) if ignored is None else ignored
    loss = _losses(x.astype(dtype), w, labels, ignored, weights, smoothing, size)
    return returned(spoiled(loss, outside), dtype)


@partial(jax.jit, static_argnames="size")
def _losses(x: Array, w: Array, labels: Array, ignored: Array, weights: Any, smoothing: Any, size: int) -> Array:
    shape, count = labels.shape, math.prod(labels.shape)
    size = max(min(size, count), 1)
    chunks = -(-count // size)

    def cut(part: Array, rest: tuple[int, ...], fill: Any) -> Array:
        part = part.reshape(count, *rest)
        part = jnp.pad(part, [(0, chunks * size - count)] + [(0, 0)] * len(rest), constant_values=fill)
        return part.reshape(chunks, size, *rest)

    # The rows are summed over chunks in the dtype of w, float32 or wider, and multiplied in that of the features.
    @partial(jax.checkpoint, prevent_cse=False)
    def chunk(_: None, part: tuple[Array, Array, Array]) -> tuple[None, Array]:
        features, label, ignore = part
        words = w.astype(features.dtype)
        logits = lax.dot_general(features, words, (((1,), (1,)), ((), ())), preferred_element_type=w.dtype)
        return None, integer_rows(logits, label, ignore, weights, smoothing)

    parts = cut(x, x.shape[-1:], 0), cut(labels, (), 0), cut(ignored, (), True)
    return lax.scan(chunk, None, parts)[1].reshape(-1)[:count].reshape(shape)
