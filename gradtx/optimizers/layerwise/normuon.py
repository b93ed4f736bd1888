"""NorMuon: Muon whose neurons all move alike.

    o_t = O(c_t)                                        as in Muon
    v_t = b2 * v_(t-1) + (1 - b2) * mean of |o_t|^2     over the weights of each neuron, a column of (inputs, outputs)
    w_t = o_t / (sqrt(v_t) + nu_eps)
    u_t = w_t * sqrt(min(inputs, outputs)) / |w_t|

Li et al., 2025, "NorMuon: Making Muon more efficient and scalable", algorithm 1. The norm of u_t is that of an
orthogonal matrix, so that the factor by shape of `scale_by_shape(consistent_rms=0.2)` makes the paper's step of 0.2 *
learning_rate * sqrt(inputs * outputs) * w_t / |w_t|. The authors' code keeps the norm of o_t, which Newton-Schulz
leaves near that. The paper's momentum does not look ahead (`nesterov=False`), the code's does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_matrix, per_param
from gradtx.linalg.newton_schulz import as_long_as_orthogonal
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon import scale_by_muon
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.shape import scale_by_shape
from gradtx.types import Mask, Slots

__all__ = ["NorMuonState", "normuon", "scale_by_normuon"]


class NorMuonState(NamedTuple):
    """The steps taken, the momentum, and of each matrix the second moments of its outputs.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_matrix(of="columns", real=True, signed=False)
    weights: dict[str, Array] = average_weights(when="bias_correction")


class scale_by_normuon(scale_by_muon, state=NorMuonState):
    """Muon's update with every neuron divided by the root of its mean square: NorMuon without the learning rate.

    It takes what `scale_by_muon` takes, and:

    Args:
      b2: Decay rate of the neurons' second moments; closer to 1 averages over more steps. In [0, 1).
      nu_eps: Added to their roots, so that a neuron whose gradient is rounding alone stays small (default 1e-8).

    A neuron is an output: a column of the matrix, by `weight_dimension_numbers`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_normuon()
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    b2: Hyper = hyper(default=0.95, ge=0, lt=1, kw_only=True)
    nu_eps: Hyper = hyper(default=1e-8, ge=0, kw_only=True)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        o, slots = super().on_stack(x, slots, shared)
        if not o.size:
            return o, slots
        nu = leaf.moment(slots.nu, jnp.mean(leaf.abs_sq(o), axis=-2), self.b2)
        root = leaf.root(nu) + self.nu_eps
        return as_long_as_orthogonal(o / root[..., None, :]), slots._replace(nu=nu)


@constructor
def normuon(
    learning_rate: HyperArg,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: HyperArg = 0.95,
    b2: HyperArg = 0.95,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    consistent_rms: float | None = 0.2,
    muon_weight_dimension_numbers: Any = None,
    iteration_dtype: Any = None,
    adam_learning_rate: HyperArg | None = None,
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps: HyperArg = 1e-8,
    adam_weight_decay: HyperArg = 0.0,
    adam_mask: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """NorMuon for the hidden matrices, AdamW for all other parameters. `update` needs params.

    Take it where Muon's neurons move by very different amounts. Entries move by 0.2 * learning_rate (root mean square),
    as Adam's do; for another scale, or Muon's own (None), set `consistent_rms`. For the other arguments see
    `scale_by_normuon` and `matrices_with_adamw`. State: one array per parameter and one number per neuron.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.normuon(1e-3).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    numbers = muon_labels(muon_weight_dimension_numbers).numbers
    view = {"weight_dimension_numbers": numbers, "iteration_dtype": iteration_dtype}
    rule = scale_by_normuon(ns_coeffs, ns_steps, beta, mu_dtype=mu_dtype, nesterov=nesterov, b2=b2, **view)
    adam = {"adam_b1": adam_b1, "adam_b2": adam_b2, "adam_eps": adam_eps, "adam_weight_decay": adam_weight_decay}
    masks = {"mask": mask, "adam_mask": adam_mask, "decouple_lr": decouple_lr, "mu_dtype": mu_dtype}
    rates = {"adam_learning_rate": adam_learning_rate, "weight_dimension_numbers": numbers}
    hidden = chain(rule, scale_by_shape(numbers, consistent_rms))
    return matrices_with_adamw(hidden, learning_rate, weight_decay, **adam, **masks, **rates)
