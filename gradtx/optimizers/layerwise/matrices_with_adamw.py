"""A rule for the hidden matrices, AdamW for all other parameters: how `muon` and its kin are made.

    hidden matrices     x <- x - learning_rate * (rule(g) + weight_decay * x)
    all others          AdamW, with a learning rate, decays and a mask of its own

Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks": vectors, embeddings and the last
layer are better left to Adam.
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
    """Checks arguments of AdamW, given as (rule, value), so that errors name them as typed: `adam_b1`, not `b1`."""
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
    """Applies `rule` to the hidden matrices, and AdamW to all other parameters. `update` needs params.

    Take it to give a rule for matrices of your own what `muon` has. Scanned layers, heads and fused projections are
    stacks of matrices by their dimension numbers; a depthwise convolution is AdamW's by None in their tree.

    `rule` is the transformation of the matrices' gradients, without learning rate and weight decay, such as
    `scale_by_muon()`, with the same dimension numbers. `weight_dimension_numbers` says which leaves are matrices: see
    `muon_labels`. `weight_decay` acts on the matrices that `mask` selects (all by default), `adam_weight_decay` on
    AdamW's leaves that `adam_mask` selects (by default `mask`); the decays are multiplied by the learning rates unless
    `decouple_lr`. `adam_learning_rate` is `learning_rate` by default. The other arguments are AdamW's.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.matrices_with_adamw(gx.scale_by_sign(), 0.1, adam_learning_rate=1e-3)
    >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> print(updates["dense"]["kernel"][0], updates["dense"]["bias"])
    [-0.1 -0.1] [-0.001 -0.001]
    """
    labels = muon_labels(weight_dimension_numbers, mask, adam_mask)
    # `labels` checks the masks on the whole tree; the rules of a group see a part of it.
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
