"""Segmentation losses that measure how little two masks overlap.

    dice_c = (I_c + smooth) / (I_c + alpha (P_c - I_c) + beta (T_c - I_c) + smooth),    loss = 1 - dice

P_c and T_c are the sums of the predicted and of the true mask of class c over all pixels, and I_c is the sum of the
product of both masks. With alpha = beta = 1/2 this is the Dice coefficient (Milletari, Navab & Ahmadi, 2016, "V-Net",
https://arxiv.org/abs/1606.04797); with other alpha and beta it is Tversky's index (Salehi, Erdogmus & Gholipour, 2017,
https://arxiv.org/abs/1706.05721).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks
from gradtx.losses import softmax
from gradtx.losses.arrays import axes, floats, known, parameter, returned, same_shape, unlike

__all__ = ["binary_dice_loss", "dice_loss", "multiclass_generalized_dice_loss"]


def dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    smooth: ArrayLike = 1.0,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: int | tuple[int, ...] | None = None,
) -> Array:
    """Computes one minus the Dice coefficient of predicted and true masks, class by class.

    Use it for segmentation if most pixels are background: pixels that are in neither mask do not affect the loss.

    Args:
      predictions: Logits, (batch, ..., classes); a softmax is applied over the classes. With a single class, (batch,
        ..., 1), a sigmoid is applied.
      targets: One-hot masks of the same shape. With a single class, either `predictions` or `targets` may lack the
        class axis.
      class_weights: A factor for the loss of each class, (classes,). 1 by default.
      smooth: Added to numerator and denominator; makes the loss less sensitive if a mask has few pixels or none. Not
        negative, 1 by default.
      alpha: Weight of false positives. Not negative, 1/2 by default.
      beta: Weight of false negatives; a weight above `alpha` favours recall. Not negative, 1/2 by default.
      apply_softmax: Whether predictions are logits (True, the default) or already probabilities.
      reduction: "mean" or "sum" over classes, or "none" for the loss of each class.
      ignore_background: Whether to leave out the first class. False by default.
      axis: The axes of the pixels. By default (None) all axes except the first and the last.

    Returns:
      The losses, (batch,), or (batch, classes) without reduction, in the dtype of the arguments (computed in float32
      or wider). With `smooth=0` two empty masks have loss 0.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: shapes do not match, a number is out of range, or, outside `jax.jit`, probabilities do not sum to 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> masks = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])  # two pixels of two classes
    >>> print(gx.losses.dice_loss(10 * masks, masks).round(4))
    [0.]
    """
    who = "dice_loss"
    p, t, dtype = _masks(who, predictions, targets, apply_softmax)
    numbers = [parameter(who, n, x, p, ge=0) for n, x in (("smooth", smooth), ("alpha", alpha), ("beta", beta))]
    losses = _losses(p, t, axis if axis is None else axes(who, axis, p.ndim), *numbers)
    if class_weights is not None:
        losses = losses * _along_classes(who, class_weights, losses)
    return returned(_reduced(who, losses, reduction, ignore_background), dtype)


def multiclass_generalized_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: ArrayLike = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> Array:
    """Computes the Dice loss with a weight for each class, so that rare and frequent classes count equally.

    Use it for segmentation with classes of very different sizes (Sudre et al., 2017, "Generalised Dice Overlap as a
    Deep Learning Loss Function for Highly Unbalanced Segmentations", https://arxiv.org/abs/1707.03237). The loss of
    each class is multiplied by a weight proportional to 1 / (pixels of the class in the batch)^2; the weights have mean
    1. A class without any pixel gets nearly all of the weight, so use this loss only if every batch contains all
    classes.

    Args:
      predictions: Logits, (batch, ..., classes).
      targets: One-hot masks of the same shape.
      smooth: Added to numerator and denominator. Not negative, 1 by default.
      apply_softmax: Whether predictions are logits (True, the default) or already probabilities.
      ignore_background: Whether to leave out the first class. False by default.

    Returns:
      The mean over the batch and the classes, one number, in the dtype of the arguments.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: the shapes differ, a number is out of range, or, outside `jax.jit`, probabilities do not sum to 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> masks = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> print(f"{gx.losses.multiclass_generalized_dice_loss(jnp.zeros((1, 3, 2)), masks):.4f}")
    0.3212
    """
    who = "multiclass_generalized_dice_loss"
    if np.shape(predictions) != np.shape(targets):
        raise unlike(who, "targets", np.shape(targets), "predictions", np.shape(predictions))
    p, t, dtype = _masks(who, predictions, targets, apply_softmax)
    losses = _losses(p, t, None, parameter(who, "smooth", smooth, p, ge=0), 0.5, 0.5)
    pixels = jnp.sum(t, axis=tuple(range(t.ndim - 1)))
    weights = 1 / (pixels * pixels + 1e-7)
    weights = weights / jnp.mean(weights)
    losses = losses * _along_classes(who, weights, losses)
    return returned(jnp.mean(_reduced(who, losses, "none", ignore_background)), dtype)


def binary_dice_loss(
    predictions: ArrayLike, targets: ArrayLike, *, smooth: ArrayLike = 1.0, apply_sigmoid: bool = True
) -> Array:
    """Computes the Dice loss of one mask.

    Use it for segmentation into foreground and background; see `dice_loss`.

    Args:
      predictions: Logits of the foreground, (batch, ...) or (batch, ..., 1).
      targets: The true mask, 0 or 1, (batch, ...) or (batch, ..., 1).
      smooth: Added to numerator and denominator. Not negative, 1 by default.
      apply_sigmoid: Whether predictions are logits (True, the default) or already probabilities.

    Returns:
      The losses, (batch,), in the dtype of the arguments.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: shapes do not match, a number is out of range, or (outside `jax.jit`) a probability is out of range.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.losses.binary_dice_loss(jnp.zeros((1, 4)), jnp.array([[1.0, 1.0, 0.0, 0.0]])).round(4))
    [0.3333]
    """
    who = "binary_dice_loss"
    shapes = np.shape(predictions), np.shape(targets)
    if len(shapes[0]) == len(shapes[1]) and shapes[0][-1:] != (1,):
        predictions, targets = jnp.asarray(predictions)[..., None], jnp.asarray(targets)[..., None]
    p, t, dtype = _masks(who, predictions, targets, apply_sigmoid)
    losses = _losses(p, t, None, parameter(who, "smooth", smooth, p, ge=0), 0.5, 0.5)
    return returned(jnp.mean(losses, axis=-1), dtype)


def _masks(who: str, predictions: Any, targets: Any, logits: bool) -> tuple[Array, Array, Any]:
    """Returns probabilities and targets, both with a class axis, and the dtype of the result."""
    names = ("targets",)
    (p, t), dtype = floats(who, also_integers=names, predictions=predictions, targets=targets)
    if p.ndim == t.ndim - 1:
        p = p[..., None]
    elif t.ndim == p.ndim - 1:
        t = t[..., None]
    same_shape(who, predictions=p, targets=t)
    if not p.ndim:
        raise ValueError(f"{who}: predictions has shape (); give it an axis for the batch, the pixels and the classes.")
    if not logits:
        _check_probabilities(who, p)
    elif p.shape[-1] == 1:
        p = jax.nn.sigmoid(p)
    else:
        p = softmax.probabilities(p)
    return p, t, dtype


def _check_probabilities(who: str, p: Array) -> None:
    if not known(p):
        return
    found = np.asarray(p, dtype=np.float64)
    if p.shape[-1] == 1:
        if ((found < -1e-5) | (found > 1 + 1e-5)).any():
            raise ValueError(
                f"{who}: predictions must be probabilities, but they range from {found.min():g} to {found.max():g}. "
                "Pass logits and let the loss apply the sigmoid, or apply it first."
            )
        return
    total = found.sum(axis=-1)
    if not np.allclose(total, 1, rtol=1e-2 if p.dtype == np.float32 else 1e-5):
        raise ValueError(
            f"{who}: predictions must be probabilities whose sum over the classes is 1, but the sums range from "
            f"{total.min():g} to {total.max():g}. Pass logits and let the loss apply the softmax, or apply it first."
        )


def _losses(p: Array, t: Array, over: tuple[int, ...] | None, smooth: Any, alpha: Any, beta: Any) -> Array:
    over = tuple(range(1, p.ndim - 1)) if over is None else over
    common, found, true = (jnp.sum(x, axis=over) for x in (p * t, p, t))
    above = common + smooth
    below = above + alpha * (found - common) + beta * (true - common)
    some = below != 0
    return jnp.where(some, 1 - above / jnp.where(some, below, 1), 0)


def _along_classes(who: str, weights: Any, losses: Array) -> Array:
    (weights,), _ = floats(who, also_integers=("class_weights",), class_weights=weights)
    if weights.shape != losses.shape[-1:]:
        wanted = "Give one weight for each class"
        raise unlike(who, "class_weights", weights.shape, "the axis of the classes", losses.shape[-1:], wanted)
    return jnp.expand_dims(weights.astype(losses.dtype), tuple(range(losses.ndim - 1)))


def _reduced(who: str, losses: Array, reduction: str, ignore_background: bool) -> Array:
    checks.choice(who, "reduction", reduction, ("mean", "sum", "none"))
    checks.flag(who, "ignore_background", ignore_background)
    if ignore_background and losses.shape[-1] > 1:
        losses = losses[..., 1:]
    return losses if reduction == "none" else getattr(jnp, reduction)(losses, axis=-1)
