"""The cross entropy of a language model's head, without holding the logits of all words at once.

    loss_t = log sum_j exp(x_t . w_j) - x_t . w_label,      x_t the features of token t, w_j row j of the embedding

The logits have an entry for each token and each word, and are by far the largest array of a language model's step. Here
a scan loops over chunks of the vocabulary and accumulates log sum exp (Wijmans et al., 2024, "Cut Your Losses in
Large-Vocabulary Language Models", https://arxiv.org/abs/2411.09009). The backward pass recomputes the logits of each
chunk (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174). So a step
needs four matrix products of this size instead of three. Chunks split the words rather than the tokens, so that the
derivative of an embedding row is computed in a single chunk, and tokens may be sharded over devices.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.losses.arrays import floats, minus, product, returned, spoiled, unlike
from gradtx.losses.cross_entropy import class_labels, class_numbers
from gradtx.losses.softmax import log_normalizer

__all__ = ["chunked_softmax_cross_entropy_with_integer_labels"]


def chunked_softmax_cross_entropy_with_integer_labels(
    features: ArrayLike,
    embedding: ArrayLike,
    labels: ArrayLike,
    *,
    chunk_size: int = 1024,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    ignore_label: int | None = None,
) -> Array:
    """Computes the cross entropy of the logits `features @ embedding.T`, with `chunk_size` words at a time.

    Use it for language models, where the logits need more memory than the rest of a training step. The value and the
    derivatives equal the results of `softmax_cross_entropy_with_integer_labels`; a step needs one more matrix product
    of features and embedding.

    Args:
      features: The input of the head for each token, (..., n).
      embedding: A row for each word, (words, n). For the kernel of a dense layer, (n, words), pass `kernel.T`.
      labels: The right word of each token, integers in [0, words), (...).
      chunk_size: Number of words whose logits are held in memory at the same time; the peak is a few arrays of tokens *
        chunk_size entries. 1024 by default. A divisor of the number of words avoids a copy of the embedding.
      class_weights: A weight for each word, (words,). 1 by default.
      label_smoothing: Fraction of each label that is spread evenly over all words. In [0, 1], 0 by default.
      ignore_label: Tokens with this label have loss 0 and derivative 0, such as -100 for padding. None by default.

    Returns:
      The losses, (...), in the dtype of the arguments. The matrix products take inputs of this dtype and accumulate in
      float32 or wider; everything else is computed in float32 or wider. Labels out of range give NaN in traced code.

    Raises:
      TypeError: `features` or `embedding` does not hold floating-point numbers, or `labels` does not hold integers.
      ValueError: shapes do not match, a number is out of range, or (outside `jax.jit`) a label is out of range.

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
    words, size = w.shape[0], checks.integer(who, "chunk_size", chunk_size, ge=1)
    weights, smoothing = class_numbers(who, class_weights, label_smoothing, words, w.dtype)
    labels, ignored, outside = class_labels(who, labels, (*x.shape[:-1], words), ignore_label)
    x, flat = x.reshape(-1, x.shape[-1]), labels.reshape(-1)
    if ignored is not None:
        x = jnp.where(ignored.reshape(-1, 1), 0, x)
    loss = _losses(x, w.astype(dtype), flat, weights, smoothing, min(size, words)).reshape(labels.shape)
    loss = loss if ignored is None else jnp.where(ignored, 0, loss)
    return returned(spoiled(loss, outside), dtype)


@partial(jax.jit, static_argnames="size")
def _losses(x: Array, w: Array, labels: Array, weights: Any, smoothing: Any, size: int) -> Array:
    """Returns the losses of tokens from features (tokens, n) and the embedding (words, n).

    `x` is in float32 or wider, and `w` is in the dtype of the matrix products.
    """
    words = w.shape[0]
    chunks = -(-words // size)
    size = -(-words // chunks)
    padding = chunks * size - words
    spread = jnp.ones(words, x.dtype) if weights is None else weights
    parts = [jnp.pad(part, [(0, padding)] + [(0, 0)] * (part.ndim - 1)) if padding else part for part in (w, spread)]

    @partial(jax.checkpoint, prevent_cse=False)
    def add(sums: tuple[Array, Array, Array], part: tuple[Array, Array, Array]) -> tuple[Any, None]:
        (total, own, mean), (rows, weight, first) = sums, part
        # x is cast inside the loop, so that the derivative with respect to x is summed over chunks in float32 or wider.
        product_of = (((1,), (1,)), ((), ()))
        logits = lax.dot_general(x.astype(rows.dtype), rows, product_of, preferred_element_type=x.dtype)
        word = first + lax.broadcasted_iota(labels.dtype, logits.shape, 1)
        own = own + jnp.sum(jnp.where(word == labels[:, None], logits, 0), axis=1)
        if smoothing is not None:
            mean = mean + jnp.sum(logits * weight, axis=1) / words
        if padding:
            logits = jnp.where(word < words, logits, -jnp.inf)
        return (jnp.logaddexp(total, log_normalizer(logits)), own, mean), None

    zeros = jnp.zeros(x.shape[:1], x.dtype)
    given = (
        parts[0].reshape(chunks, size, -1),
        parts[1].reshape(chunks, 1, size),
        size * jnp.arange(chunks, dtype=labels.dtype),
    )
    (total, own, mean), _ = lax.scan(add, (zeros - jnp.inf, zeros, zeros), given)
    loss = minus(total, own)
    loss = loss if weights is None else product(weights[labels], loss)
    if smoothing is None:
        return loss
    return product(1 - smoothing, loss) + product(smoothing, total * jnp.mean(spread) - mean)
