"""Connectionist temporal classification: sequences of labels from longer sequences of frames (Graves et al., 2006,
"Connectionist Temporal Classification", https://doi.org/10.1145/1143844.1143891).

    loss = - log sum of p(alignment) over the alignments that read as the labels

An alignment assigns a label or a blank to each frame, and its probability p is the product of the frames'
probabilities. To read an alignment, first merge repeated labels, then remove the blanks. The sum takes one pass over
the frames t. b[n] is the probability of having read n labels up to frame t if frame t is a blank, and e[n] the same if
frame t is label n:

    b[n] <- p_t(blank)   (b[n] + e[n])
    e[n] <- p_t(label n) (e[n] + b[n - 1] + e[n - 1] unless label n repeats label n - 1)

All probabilities are kept as logarithms; `log_epsilon` replaces the logarithm of 0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.core.hyper import Limits
from gradtx.losses import softmax
from gradtx.losses.arrays import floats, in_range, known, minus, returned, spoiled, unlike, whole

__all__ = ["ctc_loss", "ctc_loss_with_forward_probs"]


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: ArrayLike = -1e5,
) -> Array:
    """Computes the negative log probability of a label sequence, summed over all alignments with the frames.

    Use it for speech and handwriting, where it is unknown which frames a label belongs to.

    Args:
      logits: Logits of the classes in each frame, (batch, frames, classes), with one class for the blank.
      logit_paddings: 1 for frames that do not exist, 0 for others, (batch, frames). Padded entries may have any
        value.
      labels: Integers in [0, classes) other than `blank_id`, (batch, length). Padded entries may have any value.
      label_paddings: 1 for labels that do not exist, 0 for others, (batch, length). In each row all padding must be at
        the end.
      blank_id: The class of the blank. 0 by default.
      log_epsilon: Finite replacement for the logarithm of 0. Negative; -1e5 by default. If a sequence has more labels
        than fit into its frames, the loss is about `-log_epsilon`.

    Returns:
      The losses, (batch,), in the dtype of `logits` (computed in float32 or wider). Labels that are out of range or
      equal to `blank_id` give NaN in traced code, such as inside `jax.jit`.

    Raises:
      TypeError: `logits` does not hold floating-point numbers, or `labels` does not hold integers.
      ValueError: shapes do not match, a number is out of range, or (outside `jax.jit`) a label is out of range or the
        blank, or padding is not at the end.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> logits, labels = jnp.zeros((1, 3, 2)), jnp.array([[1]])  # 6 of 8 alignments read as one label
    >>> print(gx.losses.ctc_loss(logits, jnp.zeros((1, 3)), labels, jnp.zeros((1, 1))).round(4))
    [0.2877]
    """
    return _ctc("ctc_loss", logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon)[0]


def ctc_loss_with_forward_probs(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: ArrayLike = -1e5,
) -> tuple[Array, Array, Array]:
    """Computes `ctc_loss`, and the log probability of having read n labels up to each frame.

    Use it to align labels with frames, or to see where a sequence goes wrong.

    Args:
      logits: Logits, (batch, frames, classes).
      logit_paddings: 1 for frames that do not exist, (batch, frames).
      labels: Integers in [0, classes) other than `blank_id`, (batch, length).
      label_paddings: 1 for labels that do not exist, (batch, length). In each row all padding must be at the end.
      blank_id: The class of the blank. 0 by default.
      log_epsilon: Stands for the logarithm of 0. Negative; -1e5 by default.

    Returns:
      `(losses, blank, label)` in the dtype of `logits`. `losses`, (batch,), is the result of `ctc_loss`. `blank[t, i,
      n]`, shape (frames, batch, length + 1), is the log probability that the first n labels were read up to frame t and
      frame t is a blank. `label[t, i, n]`, shape (frames, batch, length), is the log probability that the first n + 1
      labels were read up to frame t and frame t is label n. The last frame of `blank` includes both cases. Padded
      frames repeat the values of the frame before. Impossible events have a log probability of about `log_epsilon`.

    Raises:
      TypeError: `logits` does not hold floating-point numbers, or `labels` does not hold integers.
      ValueError: as for `ctc_loss`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> given = jnp.zeros((1, 3, 2)), jnp.zeros((1, 3)), jnp.array([[1]]), jnp.zeros((1, 1))
    >>> losses, blank, label = gx.losses.ctc_loss_with_forward_probs(*given)
    >>> print(jnp.exp(label[:, 0, 0]).round(4))
    [0.5   0.5   0.375]
    """
    who = "ctc_loss_with_forward_probs"
    return _ctc(who, logits, logit_paddings, labels, label_paddings, blank_id, log_epsilon)


def _ctc(
    who: str, logits: Any, logit_paddings: Any, labels: Any, label_paddings: Any, blank_id: int, log_epsilon: Any
) -> tuple[Array, Array, Array]:
    (x,), dtype = floats(who, logits=logits)
    labels = whole(who, "labels", labels)
    _check_shapes(who, x, np.shape(logit_paddings), labels.shape, np.shape(label_paddings))
    (batch, frames, classes), length = x.shape, labels.shape[1]
    log_epsilon = _log_epsilon(who, log_epsilon, x.dtype)
    blank = checks.integer(who, "blank_id", blank_id, ge=0)
    if blank >= classes:
        raise ValueError(f"{who}: blank_id must be in [0, {classes}), the classes of logits, got {blank}.")
    off, missing = (jnp.asarray(p) != 0 for p in (logit_paddings, label_paddings))
    labels, outside = _labels(who, labels, missing, classes, blank)

    x = jnp.where(off[..., None], 0, x)
    log_p = _log_softmax(x)
    said = jnp.take_along_axis(log_p, jnp.broadcast_to(labels[:, None], (batch, frames, length)), axis=-1)
    inputs = [jnp.moveaxis(part, 1, 0) for part in (log_p[..., blank : blank + 1], said, off[..., None])]
    repeats = jnp.pad(labels[:, 1:] == labels[:, :-1], ((0, 0), (0, 1)))[:, :length]  # the next label is the same
    onward = jnp.where(repeats, log_epsilon, 0)

    b = jnp.full((batch, length + 1), log_epsilon).at[:, 0].set(0)
    (b, e), (all_b, all_e) = _read((b, jnp.full((batch, length), log_epsilon)), inputs, onward)
    b = _add_at_end(b, e)
    if frames:
        all_b = all_b.at[-1].set(b)
    count = jnp.sum(~missing, axis=1, keepdims=True)
    loss = spoiled(-jnp.take_along_axis(b, count, axis=1)[:, 0], outside)
    return returned(loss, dtype), returned(all_b, dtype), returned(all_e, dtype)


@jax.jit
def _read(start: tuple[Array, Array], inputs: list[Array], onward: Array) -> tuple[Any, Any]:
    """Returns the log probabilities (b, e) after the last frame, and the same for every frame."""

    def step(carry: tuple[Array, Array], frame: list[Array]) -> tuple[Any, Any]:
        (b, e), (log_blank, log_label, skipped) = carry, frame
        new_b = minus(_add_at_end(b, e), -log_blank)
        new_e = minus(jnp.logaddexp(e, _add_at_end(b, e + onward)[:, :-1]), -log_label)
        carry = jnp.where(skipped, b, new_b), jnp.where(skipped, e, new_e)
        return carry, carry

    return lax.scan(step, start, inputs)


def _add_at_end(b: Array, e: Array) -> Array:
    """Returns the log probability of having read n labels, whether the current frame is a blank or label n."""
    return jnp.concatenate([b[:, :1], jnp.logaddexp(b[:, 1:], e)], axis=1)


@jax.custom_jvp
def _log_softmax(x: Array) -> Array:
    """Returns the log probabilities of each frame; values and derivatives are finite even for logits of -inf."""
    top = jnp.max(x, axis=-1, keepdims=True)
    lead = jnp.maximum(minus(x, jnp.where(top == -jnp.inf, 0, top)), -float(jnp.finfo(x.dtype).max))
    return minus(lead, softmax.log_normalizer(lead)[..., None])


@_log_softmax.defjvp
def _log_softmax_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    return _log_softmax(x), dx - jnp.sum(softmax.probabilities(x) * dx, axis=-1, keepdims=True)


def _log_epsilon(who: str, value: Any, dtype: Any) -> Array:
    value = Limits(lt=0).check(who, "log_epsilon", value, schedules=False)
    return jnp.asarray(value).astype(dtype)


def _check_shapes(who: str, x: Array, off: Any, labels: Any, missing: Any) -> None:
    if x.ndim != 3 or off != x.shape[:2]:
        wanted = "Give logits as (batch, frames, classes), and a padding for each frame"
        raise unlike(who, "logit_paddings", off, "logits", x.shape, wanted)
    if len(labels) != 2 or labels[0] != x.shape[0]:
        raise unlike(who, "labels", labels, "logits", x.shape, "Give labels as (batch, length)")
    if missing != labels:
        raise unlike(who, "label_paddings", missing, "labels", labels)


def _labels(who: str, labels: Array, missing: Array, classes: int, blank: int) -> tuple[Array, Array | None]:
    """Returns labels with the blank as padding, and which traced sequences have bad labels or paddings.

    Concrete labels raise a ValueError instead; the second result is then None.
    """
    advice = f"logits has {classes} classes. Mark padding by label_paddings."
    there, outside = in_range(who, "labels", labels, range(classes), counted=~missing, advice=advice)
    wrong = ((there == blank) | (jnp.zeros_like(missing) if outside is None else outside)) & ~missing
    unsorted = missing[:, :-1] & ~missing[:, 1:]
    if known(wrong) and np.asarray(wrong).any():
        raise ValueError(
            f"{who}: labels has the blank, {blank}, among its labels. Leave blanks out, name another class by "
            "blank_id, or mark padding by label_paddings."
        )
    if known(unsorted) and np.asarray(unsorted).any():
        raise ValueError(f"{who}: label_paddings must be zeros followed by ones in each row. Move padding to the end.")
    bad = jnp.any(wrong, axis=1) | jnp.any(unsorted, axis=1)
    return jnp.where(missing, blank, there), None if known(bad) else bad
