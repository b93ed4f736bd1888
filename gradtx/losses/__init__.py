"""Loss functions with the names and arguments of `optax.losses`, and with more options.

    loss = gx.losses.softmax_cross_entropy_with_integer_labels(logits, labels, ignore_label=-100).mean()

Each function returns a loss for each example, without a mean or sum, unless its docstring says otherwise. All functions
follow these rules:

- Arithmetic is in float32 or wider. The result has the dtype to which JAX promotes the floating-point arguments; a
  result too large for a 16-bit dtype becomes the largest number of this dtype.
- Finite arguments, even the largest numbers of the dtype, give finite losses and derivatives. 0 log 0 is 0.
- Nothing is broadcast: shapes that do not match raise a ValueError, before any work.
- Integer labels out of range raise a ValueError outside `jax.jit`, and give NaN in traced code.
- An entry that `where` leaves out may have any value, including NaN, and has derivative 0.
"""

from gradtx.losses.binary import sigmoid_binary_cross_entropy, sigmoid_focal_loss
from gradtx.losses.chunked import chunked_softmax_cross_entropy_with_integer_labels
from gradtx.losses.cross_entropy import (
    poly_loss_cross_entropy,
    safe_softmax_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from gradtx.losses.ctc import ctc_loss, ctc_loss_with_forward_probs
from gradtx.losses.divergences import (
    convex_kl_divergence,
    generalized_kl_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
)
from gradtx.losses.fenchel_young import make_fenchel_young_loss
from gradtx.losses.margins import (
    hinge_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    perceptron_loss,
    sparsemax_loss,
)
from gradtx.losses.ranking import ranking_softmax_loss
from gradtx.losses.regression import (
    cosine_distance,
    cosine_similarity,
    huber_loss,
    l2_loss,
    log_cosh,
    squared_error,
)
from gradtx.losses.segmentation import binary_dice_loss, dice_loss, multiclass_generalized_dice_loss
from gradtx.losses.self_supervised import ntxent, triplet_margin_loss
from gradtx.losses.smoothing import smooth_labels

__all__ = [
    "binary_dice_loss",
    "chunked_softmax_cross_entropy_with_integer_labels",
    "convex_kl_divergence",
    "cosine_distance",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dice_loss",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "log_cosh",
    "make_fenchel_young_loss",
    "multiclass_generalized_dice_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
    "perceptron_loss",
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sparsemax_loss",
    "squared_error",
    "triplet_margin_loss",
]
