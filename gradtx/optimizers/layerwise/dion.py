"""Dion: orthogonal updates of low rank, with error feedback.

    B_t = M_(t-1) + g_t
    P_t = an orthonormal basis of B_t^H Q_(t-1)         one power iteration, computed by QR
    R_t = B_t P_t
    M_t = B_t - (1 - beta) * R_t P_t^H                  the momentum keeps what the update leaves out
    Q_t = R_t with each column scaled to norm 1
    u_t = sqrt(outputs / inputs) * Q_t P_t^H

for matrices of shape (inputs, outputs). Ahn et al., 2025, "Dion: Distributed Orthonormalized Updates", algorithm 1,
which writes matrices as (outputs, inputs). Q_0 is random and depends only on `seed` and the shape. If a column of R_t
consists only of rounding errors, it does not enter the update, and the column of Q is not changed. The paper instead
adds a small number to the norms, so rounding errors enter the update.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import counter, factor, per_matrix
from gradtx.core.value import dtype, integer
from gradtx.linalg.spectral import adjoint
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.types import Mask, Slots

__all__ = ["DionState", "dion", "scale_by_dion"]

_SCALE = 64
"""The momentum is stored as M / 64, because M may overflow. The update does not depend on this scale."""


class DionState(NamedTuple):
    """The state of `scale_by_dion`.

    `count`: the number of steps taken. `mu`: each matrix's momentum, M / 64. `basis`: each matrix's Q.
    """

    count: Array = counter()
    mu: Array = per_matrix(dtype="mu_dtype")
    basis: Array = factor(side="rows", rank="rank", start="first_basis")


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


class scale_by_dion(Layerwise, state=DionState):
    """Replaces the momentum of each matrix by an orthonormal matrix of low rank.

    This is `dion` for matrices, without learning rate and weight decay. The formula is in the module's docstring. The
    update does not change if all gradients are multiplied by a positive number. Derivatives treat the basis P as a
    constant.

    Args:
      rank: Rank of the update; matrices with a shorter side use their full rank. A lower rank costs less time per step
        but needs more steps. At least 1; default 128.
      beta: Decay rate of the momentum inside the subspace of the update; a value closer to 1 averages over more steps.
        The rest of the momentum does not decay. In [0, 1); default 0.95.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      seed: Integer seed of the random first basis; the same seed gives the same run. Not negative; default 0.

    State: one array per parameter (4 bytes per entry in float32), and one array of shape inputs x rank for each matrix.

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Ahn et al., 2025, "Dion: Distributed Orthonormalized Updates", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_dion(rank=1)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.0]])
    >>> print(jnp.abs(tx.update(g, tx.init(g))[0]).round(3))
    [[1. 0.]
     [0. 0.]]
    """

    rank: int = integer(default=128, ge=1)
    beta: Hyper = hyper(default=0.95, ge=0, lt=1)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)
    seed: int = integer(default=0, ge=0, kw_only=True)

    def first_basis(self, zeros: Array) -> Array:
        """Returns Q_0."""
        return jax.random.normal(jax.random.key(self.seed), zeros.shape, zeros.real.dtype).astype(zeros.dtype)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        if not x.size:
            return x, slots
        momentum = slots.mu + x / _SCALE
        largest = lax.stop_gradient(jnp.max(jnp.abs(momentum), axis=(-2, -1), keepdims=True))
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
        b = momentum / unit  # products of large numbers would overflow
        p = lax.stop_gradient(jnp.linalg.qr(_dot(adjoint(b), slots.basis))[0])
        r = _dot(b, p)
        size = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(jnp.where(r == 0, 1, r))) * (r != 0), axis=-2, keepdims=True))
        least = jnp.max(size, axis=-1, keepdims=True) * (jnp.finfo(x.dtype).eps * max(x.shape[-2:]))
        some = ~(size <= least)  # true also for NaN, so that NaN is not hidden
        q = r / jnp.where(some, size, 1)
        mu = momentum - _dot(r, adjoint(p)) * (1 - self.beta) * unit
        u = _dot(jnp.where(some, q, 0), adjoint(p)) * math.sqrt(x.shape[-1] / x.shape[-2])
        return u, slots._replace(mu=mu, basis=jnp.where(some, q, slots.basis))

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


@constructor
def dion(
    learning_rate: HyperArg,
    rank: int = 128,
    beta: HyperArg = 0.95,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    mu_dtype: Any = None,
    *,
    seed: int = 0,
    dion_weight_dimension_numbers: Any = None,
    adam_learning_rate: HyperArg | None = None,
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps: HyperArg = 1e-8,
    adam_weight_decay: HyperArg = 0.0,
    adam_mask: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs Dion on the hidden matrices and AdamW on all other parameters.

    Use it in place of Muon when matrices are large: a step needs products with matrices of `rank` columns instead of
    full matrices. The update is an orthonormal matrix of rank `rank`; the momentum keeps what the update leaves out,
    for later steps (Ahn et al., 2025, "Dion: Distributed Orthonormalized Updates", algorithm 1):

        p <- p - learning_rate * (sqrt(outputs / inputs) * Q P^H + weight_decay * p)

    where P has `rank` orthonormal columns and Q has `rank` columns of norm 1, both computed from the momentum by one
    power iteration.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      rank: Rank of the update; matrices with a shorter side use their full rank. A lower rank costs less time per step
        but needs more steps. At least 1; default 128.
      beta: Decay rate of the momentum inside the subspace of the update; a value closer to 1 averages over more steps.
        The rest of the momentum does not decay. In [0, 1); default 0.95.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype of the stored momentum and of AdamW's first moment, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.
      seed: Integer seed of the random first basis; the same seed gives the same run. Not negative; default 0.
      dion_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      adam_learning_rate: Learning rate of AdamW for the parameters that are not hidden matrices; `learning_rate` by
        default. Not negative.
      adam_b1: Decay rate of AdamW's first moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.9.
      adam_b2: Decay rate of AdamW's second moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.999.
      adam_eps: Added to AdamW's denominator for numerical stability. Not negative; default 1e-8.
      adam_weight_decay: Strength of AdamW's decoupled weight decay, for the parameters that are not hidden matrices.
        Not negative; default 0.
      adam_mask: Which of the parameters that AdamW trains to decay; accepts the same kinds of values as `mask`, which
        is also the default.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' (the hidden matrices) and 'adam', whose `update` needs `params`. State:
      for each hidden matrix one array of the same shape (4 bytes per entry in float32) and one of shape inputs x rank;
      two arrays for every other parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.dion(0.01, rank=16).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    numbers = muon_labels(dion_weight_dimension_numbers).numbers
    rule = scale_by_dion(rank, beta, mu_dtype, weight_dimension_numbers=numbers, seed=seed)
    return matrices_with_adamw(
        rule,
        learning_rate,
        weight_decay,
        mask,
        adam_learning_rate=adam_learning_rate,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
        adam_weight_decay=adam_weight_decay,
        adam_mask=adam_mask,
        mu_dtype=mu_dtype,
        decouple_lr=decouple_lr,
        weight_dimension_numbers=numbers,
    )
