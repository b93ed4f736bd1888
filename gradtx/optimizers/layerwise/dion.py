"""Dion: orthogonal updates of low rank, with error feedback.

    B_t = M_(t-1) + g_t
    P_t = an orthonormal basis of B_t^H Q_(t-1)         one power iteration, by QR
    R_t = B_t P_t
    M_t = B_t - (1 - beta) * R_t P_t^H                  what the step left out stays in the momentum
    Q_t = R_t with columns of norm 1
    u_t = sqrt(outputs / inputs) * Q_t P_t^H

for matrices of (inputs, outputs). Ahn et al., 2025, "Dion: Distributed Orthonormalized Updates", algorithm 1, which
writes matrices the other way round. Q_0 is random, the same in every run with the same `seed`. A column of R_t
without anything but rounding moves nothing, and its column of Q stays as it was: the paper adds a small number to
norms, and moves in directions of rounding errors.
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
"""The momentum is kept as M / 64, because M may overflow. The update does not depend on it."""


class DionState(NamedTuple):
    """The steps taken, and of each matrix M / 64 and Q."""

    count: Array = counter()
    mu: Array = per_matrix(dtype="mu_dtype")
    basis: Array = factor(side="rows", rank="rank", start="first_basis")


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


class scale_by_dion(Layerwise, state=DionState):
    """Orthonormal updates of low rank: Dion without learning rate and weight decay.

    Args:
      rank: The rank of the update, at least 1 (default 128); of a smaller matrix its full rank. A lower one costs less
        time, and more steps.
      beta: Decay rate of the part of the momentum that the update has used, closer to 1 averages over more steps. The
        rest of the momentum does not decay. In [0, 1).
      mu_dtype: The dtype of the stored momentum. By default the parameter's, float32 at least.
      weight_dimension_numbers: Which axes are inputs and which are outputs, as in `scale_by_muon`.
      seed: The seed of the first basis, an integer (default 0).

    The update is the same for c * g as for g. Derivatives treat P as a constant. State: one array per parameter, and
    one of inputs x rank for each matrix.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_dion(rank=1)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.0]])
    >>> print(jnp.abs(tx.update(g, tx.init(g))[0]).round(3))
    [[1. 0.]
     [0. 0.]]

    Raises:
      ValueError: The dimension numbers do not fit a leaf.
    """

    rank: int = integer(default=128, ge=1)
    beta: Hyper = hyper(default=0.95, ge=0, lt=1)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)
    seed: int = integer(default=0, ge=0, kw_only=True)

    def first_basis(self, zeros: Array) -> Array:
        """Q_0."""
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
        some = ~(size <= least)  # NaN is seen
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
    """Dion for the hidden matrices, AdamW for all other parameters. `update` needs params.

    Take it in place of Muon where matrices are large: a step costs products with `rank` columns instead of
    whole ones. For the arguments see `scale_by_dion` and `matrices_with_adamw`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.dion(0.01, rank=16).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    numbers = muon_labels(dion_weight_dimension_numbers).numbers
    rule = scale_by_dion(rank, beta, mu_dtype, weight_dimension_numbers=numbers, seed=seed)
    given = {"adam_learning_rate": adam_learning_rate, "adam_b1": adam_b1, "adam_b2": adam_b2, "adam_eps": adam_eps}
    given |= {"adam_weight_decay": adam_weight_decay, "adam_mask": adam_mask, "mu_dtype": mu_dtype}
    given |= {"weight_dimension_numbers": numbers, "decouple_lr": decouple_lr}
    return matrices_with_adamw(rule, learning_rate, weight_decay, mask, **given)
