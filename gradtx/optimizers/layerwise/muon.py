"""Muon: the momentum of a matrix with all its singular values brought near 1.

    m_t = beta * m_(t-1) + (1 - beta) * g_t
    c_t = beta * m_t / (1 - beta^(t+1)) + (1 - beta) * g_t / (1 - beta^t)   (Nesterov)   or   m_t / (1 - beta^t)
    u_t = O(c_t)                    Newton-Schulz (`gradtx.linalg.newton_schulz`)
    u_t = <c_t, O(c_t)> * O(c_t)    with `adaptive`

times sqrt(max(1, outputs / inputs)), or sqrt(max(outputs, inputs)) * consistent_rms. Jordan et al., 2024, "Muon: An
optimizer for hidden layers in neural networks"; Liu et al., 2025, "Muon is Scalable for LLM Training". optax
corrects the momentum for its start at zero; PyTorch does not (`bias_correction=False`), and takes eps for the least
norm to divide by (`eps_is_floor=True`). Matrices of the same shape are iterated together, as one stack.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core import mask as masks
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import counter, per_param
from gradtx.core.value import choice, dtype, flag, integer, static
from gradtx.linalg.newton_schulz import PRECONDITIONINGS, coefficients, orthogonalize
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.optimizers.elementwise.adamw import adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.decay import add_decayed_weights, decoupled_weight_decay
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.transforms.shape import scale_by_shape

__all__ = ["MuonState", "muon", "scale_by_muon"]


class MuonState(NamedTuple):
    """The steps taken, and the momentum."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")


class scale_by_muon(Layerwise, state=MuonState):
    """The rule of Muon, without its factor by shape.

    `ns_coeffs` are three numbers for `ns_steps` equal steps, a triple for each step, or 'standard' or 'dion';
    `iteration_dtype` is what the products are rounded to: float32 or wider by default, bfloat16 is faster where the
    hardware has it. `beta` lies in [0, 1), `eps` is not negative. `weight_dimension_numbers` are the axes of
    inputs and outputs: one for all leaves, a tree of them, a function from the tree to such a tree, or None for
    (input, output), where a weight with more axes has one output axis, the last. A vector is a matrix of one row.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_muon(ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]

    Raises:
      ValueError: the dimension numbers do not fit a leaf.
    """

    ns_coeffs: Any = static(default=((3.4445, -4.775, 2.0315),), check=coefficients)
    ns_steps: int = integer(default=5, ge=1)
    beta: Hyper = hyper(default=0.95, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    mu_dtype: Any = dtype(default=None)
    nesterov: bool = flag(default=True, kw_only=True)
    adaptive: bool = flag(default=False, kw_only=True)
    preconditioning: str = choice(default="frobenius", options=PRECONDITIONINGS, kw_only=True)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)
    bias_correction: bool = flag(default=True, kw_only=True)
    eps_is_floor: bool = flag(default=False, kw_only=True)
    iteration_dtype: Any = dtype(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.ns_coeffs) not in (1, self.ns_steps):
            raise ValueError(
                f"scale_by_muon: ns_coeffs has {len(self.ns_coeffs)} triples for ns_steps={self.ns_steps} steps. "
                "Give one triple for all steps, or one for each."
            )

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        if self.bias_correction:
            return leaf.debias(self.beta, t, self.nesterov), numbers
        return ((self.beta, 1 - self.beta) if self.nesterov else (1,)), numbers

    def to_stack(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """The corrected momentum; a quarter of it, so that it cannot overflow."""
        mu = leaf.moment(slots.mu, g, self.beta)
        return leaf.debiased_ratio(mu, g, jnp.full((), 4, g.real.dtype), shared), slots._replace(mu=mu)

    def on_stack(self, x: Array, slots: Any, shared: Any) -> tuple[Array, Any]:
        triples = self.ns_coeffs * self.ns_steps if len(self.ns_coeffs) == 1 else self.ns_coeffs
        settings = {"preconditioning": self.preconditioning, "dtype": self.iteration_dtype}
        return orthogonalize(x, triples, eps=self.eps / 4, eps_is_floor=self.eps_is_floor, **settings), slots

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return (g * jnp.sum(before.conj() * g) * 4 if self.adaptive else g), slots


@constructor
def muon(
    learning_rate: HyperArg,
    ns_coeffs: Any = (3.4445, -4.775, 2.0315),
    ns_steps: int = 5,
    beta: HyperArg = 0.95,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps_root: HyperArg = 0.0,
    adam_weight_decay: HyperArg = 0.0,
    adam_learning_rate: HyperArg | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
    iteration_dtype: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Muon for the hidden matrices, AdamW for the rest. State: one array per parameter of Muon's, two of AdamW's.

    `muon_weight_dimension_numbers` says which leaves are Muon's, and how they are matrices: see `muon_labels`. The
    decay acts on the leaves that `mask` selects. AdamW's rate is Muon's unless given. `update` needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"embed": jnp.ones((9, 4)), "dense": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
    >>> gx.muon(0.02).param_labels(params)
    {'dense': {'bias': 'adam', 'kernel': 'muon'}, 'embed': 'adam'}
    """
    labels = muon_labels(muon_weight_dimension_numbers, mask)
    mask = masks.in_group(mask)
    flags = {"nesterov": nesterov, "adaptive": adaptive, "preconditioning": preconditioning}
    view = {"weight_dimension_numbers": labels.numbers, "iteration_dtype": iteration_dtype}
    hidden = chain(
        scale_by_muon(ns_coeffs, ns_steps, beta, eps, mu_dtype, **flags, **view),
        scale_by_shape(labels.numbers, consistent_rms),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
    rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    rate = scale_by_learning_rate.check_field("learning_rate", rate, who="muon", name="adam_learning_rate")
    decay = add_decayed_weights.check_field("weight_decay", adam_weight_decay, who="muon", name="adam_weight_decay")
    given = {"b1": adam_b1, "b2": adam_b2, "eps_root": adam_eps_root}
    moments = {k: scale_by_adam.check_field(k, x, who="muon", name=f"adam_{k}") for k, x in given.items()}
    options = {"mu_dtype": mu_dtype, "mask": mask, "nesterov": nesterov, "decouple_lr": decouple_lr}
    rest = adamw(rate, eps=eps, weight_decay=decay, **moments, **options)
    return partition({"muon": hidden, "adam": rest}, labels)
