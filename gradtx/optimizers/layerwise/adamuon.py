"""AdaMuon: Muon with a second moment of every entry of its orthogonal update.

    o_t = O(sign(c_t))                                as in Muon, of the signs of the momentum
    v_t = b2 * v_(t-1) + (1 - b2) * |o_t|^2
    w_t = o_t / (sqrt(v_t) + nu_eps)
    u_t = w_t * sqrt(min(inputs, outputs)) / |w_t|

Si et al., 2025, "AdaMuon: Adaptive Muon Optimizer", algorithm 1, where the decays of both moments are the same. The
factor by shape of `scale_by_shape(consistent_rms=0.2)` makes the paper's step of 0.2 * learning_rate * sqrt(inputs *
outputs) * w_t / |w_t|. The first version of the paper took no signs (`sign_momentum=False`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_matrix, per_param
from gradtx.core.value import flag
from gradtx.linalg.newton_schulz import as_long_as_orthogonal
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon import scale_by_muon
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.shape import scale_by_shape
from gradtx.types import Mask, Slots

__all__ = ["AdaMuonState", "adamuon", "scale_by_adamuon"]


class AdaMuonState(NamedTuple):
    """The steps taken, the momentum, and the second moment of the orthogonal update, by matrix.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_matrix(real=True, signed=False)
    weights: dict[str, Array] = average_weights(when="bias_correction")


class scale_by_adamuon(scale_by_muon, state=AdaMuonState):
    """Muon's update with every entry divided by the root of its mean square: AdaMuon without the learning rate.

    It takes what `scale_by_muon` takes, and:

    Args:
      b2: Decay rate of the second moment of the orthogonal update; closer to 1 averages over more steps. In [0, 1).
      nu_eps: Added to its root, so that an entry of rounding errors alone stays small (default 1e-8).
      sign_momentum: Whether the signs of the momentum are orthogonalized, or the momentum itself.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adamuon()
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    b2: Hyper = hyper(default=0.95, ge=0, lt=1, kw_only=True)
    nu_eps: Hyper = hyper(default=1e-8, ge=0, kw_only=True)
    sign_momentum: bool = flag(default=True, kw_only=True)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        o, slots = super().on_stack(leaf.sign(x) if self.sign_momentum else x, slots, shared)
        nu = leaf.moment(slots.nu, leaf.abs_sq(o), self.b2)
        return as_long_as_orthogonal(o / (leaf.root(nu) + self.nu_eps)), slots._replace(nu=nu)


@constructor
def adamuon(
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
    sign_momentum: bool = True,
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
    """AdaMuon for the hidden matrices, AdamW for all other parameters. `update` needs params.

    Take it where Muon's steps should be damped entry by entry, as Adam's are. Entries move by 0.2 * learning_rate (root
    mean square). For the arguments see `scale_by_adamuon` and `matrices_with_adamw`. State: two arrays per parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.adamuon(1e-3).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    labels = muon_labels(muon_weight_dimension_numbers)
    flags = {"nesterov": nesterov, "sign_momentum": sign_momentum, "iteration_dtype": iteration_dtype}
    rule = scale_by_adamuon(
        ns_coeffs, ns_steps, beta, mu_dtype=mu_dtype, b2=b2, weight_dimension_numbers=labels.numbers, **flags
    )
    return matrices_with_adamw(
        chain(rule, scale_by_shape(labels.numbers, consistent_rms)),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        adam_mask=adam_mask,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
        adam_learning_rate=adam_learning_rate,
        adam_weight_decay=adam_weight_decay,
        mu_dtype=mu_dtype,
        decouple_lr=decouple_lr,
        weight_dimension_numbers=labels.numbers,
    )
