"""Combines a transformation for the hidden matrices with AdamW for all other parameters, as in `muon`.

    hidden matrices     x <- x - learning_rate * (rule(g) + weight_decay * x)
    other parameters    AdamW, with its own learning rate, decay rates and mask

Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks": vectors, embeddings and the last layer
are better left to Adam.
"""

from __future__ import annotations

from typing import Any

from gradtx.core import mask as masks
from gradtx.core.chain import chain
from gradtx.core.constructor import called, constructor
from gradtx.core.hyper import HyperArg
from gradtx.core.partition import partition
from gradtx.core.value import Value
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.optimizers.elementwise.adamw import adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.decay import add_decayed_weights, decoupled_weight_decay
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask

__all__ = ["matrices_with_adamw"]


def _adam_fields(**fields: tuple[type[Value], Any]) -> dict[str, Any]:
    """Checks AdamW's arguments, given as (class, value); errors name them as the user did: `adam_b1`, not `b1`."""
    return {k: rule.check_field(k, x, who=called(None), name=f"adam_{k}") for k, (rule, x) in fields.items()}


@constructor
def matrices_with_adamw(
    rule: Any,
    learning_rate: HyperArg,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    weight_dimension_numbers: Any = None,
    adam_learning_rate: HyperArg | None = None,
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps: HyperArg = 1e-8,
    adam_eps_root: HyperArg = 0.0,
    adam_weight_decay: HyperArg = 0.0,
    adam_mask: Any = None,
    mu_dtype: Any = None,
    nesterov: bool = False,
    decouple_lr: bool = False,
) -> partition:
    """Applies your own transformation to the hidden matrices and AdamW to all other parameters.

    Use it to build an optimizer like `muon` from your own transformation of matrices. Scanned layers, attention heads
    and fused projections are stacks of matrices, which `weight_dimension_numbers` describes. To train a leaf with
    AdamW, such as a depthwise convolution, set the leaf's entry to None. The updates are:

        hidden matrices     p <- p - learning_rate * (rule(g) + weight_decay * p)
        other parameters    AdamW


    Args:
      rule: The transformation that is applied to the gradients of the matrices, without learning rate and weight decay,
        such as `scale_by_muon()`. Pass it the same dimension numbers.
      learning_rate: Step size: a number, or a schedule (a function of the step count).
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and outputs: a
        tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a function
        that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out vectors,
        embeddings and output heads).
      adam_learning_rate: Learning rate of AdamW for the parameters that are not hidden matrices; `learning_rate` by
        default. Not negative.
      adam_b1: Decay rate of AdamW's first moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.9.
      adam_b2: Decay rate of AdamW's second moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.999.
      adam_eps: Added to AdamW's denominator for numerical stability. Not negative; default 1e-8.
      adam_eps_root: Added to AdamW's second moment under the square root. Not negative; default 0.
      adam_weight_decay: Strength of AdamW's decoupled weight decay, for the parameters that are not hidden matrices.
        Not negative; default 0.
      adam_mask: Which of the parameters that AdamW trains to decay; accepts the same kinds of values as `mask`, which
        is also the default.
      mu_dtype: Dtype in which AdamW's first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether AdamW uses Nesterov momentum. Default False.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' (the hidden matrices) and 'adam', whose `update` needs `params`. State:
      for the matrices the state of `rule`, for every other parameter two arrays (8 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.matrices_with_adamw(gx.scale_by_sign(), 0.1, adam_learning_rate=1e-3)
    >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> print(updates["dense"]["kernel"][0], updates["dense"]["bias"])
    [-0.1 -0.1] [-0.001 -0.001]
    """
    labels = muon_labels(weight_dimension_numbers, mask, adam_mask)
    # `labels` checks the masks on the whole tree, because the transformations of a group receive only some of the
    # leaves.
    mask, adam_mask = masks.in_group(mask), masks.in_group(mask if adam_mask is None else adam_mask)
    links = rule.links if type(rule) is chain else (rule,)
    hidden = chain(*links, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
    fields = _adam_fields(
        learning_rate=(scale_by_learning_rate, learning_rate if adam_learning_rate is None else adam_learning_rate),
        weight_decay=(add_decayed_weights, adam_weight_decay),
        b1=(scale_by_adam, adam_b1),
        b2=(scale_by_adam, adam_b2),
        eps=(scale_by_adam, adam_eps),
        eps_root=(scale_by_adam, adam_eps_root),
    )
    rest = adamw(**fields, mu_dtype=mu_dtype, mask=adam_mask, nesterov=nesterov, decouple_lr=decouple_lr)
    return partition({"muon": hidden, "adam": rest}, labels)
