"""Fira: GaLore's low-rank Adam, and the rest of the gradient scaled by what Adam does.

    R_t = P^H G_t                             P: the leading left singular vectors, anew every update_proj_gap steps
    A_t = Adam's update of R_t
    S_t = (G_t - P R_t) diag(|A_t| / |R_t|)   norms of columns; shrunk so that |S_t| <= growth * |S_(t-1)|
    u_t = scale * (P A_t + S_t)

of matrices G_t with at most as many rows as columns; others are transposed. Chen et al., 2024, "Fira: Can We Achieve
Full-rank Training of LLMs Under Low-rank Constraint?", algorithm 1. It projects the shorter side, as GaLore's authors
do; `galore` projects the longer one, as optax does. As in Adam, and not in the authors' code, eps is added after the
second moment is corrected; and a rest of zeros limits none that follows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, tree
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, factor, per_matrix
from gradtx.core.value import dtype, integer
from gradtx.linalg.low_rank import limited_growth, wide
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.types import Mask, Slots

__all__ = ["FiraState", "fira", "scale_by_fira"]


class FiraState(NamedTuple):
    """The steps taken, of each matrix P, Adam's moments of R, and the norm of the last S, 0 before the first.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    projector: Array = factor(side="shorter", rank="rank")
    mu: Array = factor(side="longer", rank="rank", dtype="mu_dtype")
    nu: Array = factor(side="longer", rank="rank", real=True, signed=False)
    norm: Array = per_matrix(of="whole", real=True, signed=False)
    weights: dict[str, Array] = average_weights()


def _dot(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


class scale_by_fira(Layerwise, state=FiraState, corrected=("b1", "b2"), every="update_proj_gap"):
    """Adam in a low-rank subspace, and scaled gradients outside of it: Fira without the learning rate.

    Args:
      rank: The number of singular vectors to project onto, at least 1 (default 128).
      update_proj_gap: The number of steps after which the projection is computed anew; each time costs an SVD.
      scale: Multiplies the update.
      b1: Decay rate of the first moment; closer to 1 averages over more steps. In [0, 1).
      b2: Decay rate of the second moment, likewise.
      eps: Added to the root of the second moment (default 1e-8). Not negative.
      growth: The most by which the norm of S may grow from step to step; infinity is no bound.
      mu_dtype: The dtype of the first moment. By default the parameter's, float32 at least.
      weight_dimension_numbers: Which axes are inputs and which are outputs, as in `scale_by_muon`.

    Derivatives treat the projection as a constant. State: for each matrix two arrays of longer side x rank, one of
    shorter side x rank, and a number.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_fira(rank=1)
    >>> g = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> updates, state = tx.update(g, tx.init(g))
    >>> print(updates.round(3), state.mu.shape)
    [[1. 0.]
     [0. 0.]] (1, 2, 1)

    Raises:
      ValueError: The dimension numbers do not fit a leaf.
    """

    rank: int = integer(default=128, ge=1)
    update_proj_gap: int = integer(default=200, ge=1)
    scale: Hyper = hyper(default=1.0)
    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    growth: Hyper = hyper(default=1.01, gt=0, infinite=True)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_nu = 1 / self.weight("b2", t, numbers)
        return Shared(corrections=self.debias("b1", t, numbers), grow_nu=grow_nu), self.weighed(numbers)

    def renew_stack(self, x: Array, slots: Slots, shared: Any) -> Any:
        if not x.size:
            return slots
        g = lax.stop_gradient(wide(x))
        largest = jnp.max(jnp.abs(g), axis=(-2, -1), keepdims=True)
        vectors = jnp.linalg.svd(g / jnp.where(largest > 0, largest, 1), full_matrices=False)[0]
        old = slots.projector
        return slots._replace(projector=leaf.narrow(vectors[..., : old.shape[-1]], old.dtype))

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        if not x.size:
            return x, slots
        g, p = wide(x), slots.projector
        low = _dot(jnp.swapaxes(g, -1, -2) * _SCALE, p.conj())  # R^T / 1024, because R may overflow
        mu = leaf.moment(slots.mu, low, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(low), self.b2)
        adam = leaf.debiased_ratio(mu, low, leaf.root(nu * shared.grow_nu) + self.eps * _SCALE, shared.corrections)
        unit, size = tree.scaled(low, (low.ndim - 1,))
        factor = tree.norm(adam, axes=(low.ndim - 1,)) * jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        rest = g * _SCALE - _dot(p, jnp.swapaxes(low, -1, -2))
        rest = rest * jnp.swapaxes(1 / unit, -1, -2) * jnp.swapaxes(factor, -1, -2)
        rest, norm = limited_growth(rest, slots.norm, self.growth)
        u = (_dot(p, jnp.swapaxes(adam, -1, -2)) + rest) * self.scale
        u = u if x.shape[-2] < x.shape[-1] else jnp.swapaxes(u, -1, -2)
        return u, slots._replace(mu=mu, nu=nu, norm=norm)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


_SCALE = 1 / 1024
"""R is kept as R / 1024, and eps is divided likewise: A is the same."""


@constructor
def fira(
    learning_rate: HyperArg,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: HyperArg = 1.0,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    growth: HyperArg = 1.01,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    fira_weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Fira for the hidden matrices, AdamW for all other parameters. `update` needs params.

    Take it for the memory of GaLore without its limit to a subspace. `b1`, `b2`, `eps`, `weight_decay` and `mask` are
    those of both. For the other arguments see `scale_by_fira`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.fira(0.01, rank=4).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    labels = muon_labels(fira_weight_dimension_numbers)
    view = {"growth": growth, "weight_dimension_numbers": labels.numbers}
    rule = scale_by_fira(rank, update_proj_gap, scale, b1, b2, eps, **view)
    shared: dict[str, Any] = {"adam_b1": b1, "adam_b2": b2, "adam_eps": eps, "adam_weight_decay": weight_decay}
    shared |= {"weight_dimension_numbers": labels.numbers, "decouple_lr": decouple_lr}
    return matrices_with_adamw(rule, learning_rate, weight_decay, mask, **shared)
