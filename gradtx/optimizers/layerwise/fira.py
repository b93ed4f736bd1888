"""Fira: low-rank Adam as in GaLore, plus the rest of the gradient, scaled like Adam's update in the subspace.

    R_t = P^H G_t                             P: leading left singular vectors, recomputed every update_proj_gap steps
    A_t = Adam's update of R_t
    S_t = (G_t - P R_t) diag(|A_t| / |R_t|)   norms of columns; scaled down so that |S_t| <= growth * |S_(t-1)|
    u_t = scale * (P A_t + S_t)

for matrices G_t with at most as many rows as columns; other matrices are transposed first. Chen et al., 2024, "Fira:
Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?", algorithm 1. Fira projects the shorter side, as
the authors of GaLore do; `gradtx.galore` projects the longer side, as optax does. This implementation differs from the
authors' code in two points: eps is added after the bias correction of the second moment, as in Adam, and if S is zero
at one step, it does not limit S at later steps.
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
    """The state of `scale_by_fira`.

    `count`: the number of steps taken. `projector`: P of each matrix. `mu`, `nu`: Adam's moments of R. `norm`: the norm
    of the previous S, 0 before the first step. `weights`: for each decay rate that is a schedule, the divisor of the
    bias correction, which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a
    schedule.
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
    """Runs Adam in a low-rank subspace, and scales the rest of the gradient by the same factors.

    This is `fira` for matrices, without learning rate and weight decay. The formula is in the module's docstring.
    Derivatives treat the projection as a constant.

    Args:
      rank: Rank of the projection; a lower rank saves memory but approximates the gradient less closely, and a matrix
        with a side shorter than `rank` is projected to the length of that side. At least 1; default 128.
      update_proj_gap: Number of steps between two recomputations of the projection. Each recomputation costs a singular
        value decomposition. At least 1; default 200.
      scale: Factor of the update. Default 1.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      growth: Largest factor by which |S|, the norm of the update outside the subspace, may grow from one step to the
        next; infinity disables the bound. Positive; default 1.01.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    State: for each matrix two arrays of shape longer side x rank, one of shape shorter side x rank, and one number.

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Chen et al., 2024, "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
    algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_fira(rank=1)
    >>> g = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> updates, state = tx.update(g, tx.init(g))
    >>> print(updates.round(3), state.mu.shape)
    [[1. 0.]
     [0. 0.]] (1, 2, 1)
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
"""R and eps are divided by 1024, because R may overflow; A does not change."""


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
    """Runs Fira on the hidden matrices and AdamW on all other parameters.

    Use it instead of GaLore, with about the same memory, when training should not be limited to a subspace: the update
    also contains the component of the gradient outside the subspace, scaled by the same factors as Adam's update inside
    the subspace (Chen et al., 2024, "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
    algorithm 1):

        p <- p - learning_rate * (scale * (P A + S) + weight_decay * p)

    where A is Adam's update of the projected gradient R = P^H G, and S is G - P R scaled by |A| / |R|, column by
    column. AdamW uses the same `b1`, `b2`, `eps`, `weight_decay` and `mask`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      rank: Rank of the projection; a lower rank saves memory but approximates the gradient less closely, and a matrix
        with a side shorter than `rank` is projected to the length of that side. At least 1; default 128.
      update_proj_gap: Number of steps between two recomputations of the projection. Each recomputation costs a singular
        value decomposition. At least 1; default 200.
      scale: Factor of the update. Default 1.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      growth: Largest factor by which |S|, the norm of the update outside the subspace, may grow from one step to the
        next; infinity disables the bound. Positive; default 1.01.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      fira_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' (the hidden matrices) and 'adam', whose `update` needs `params`. State:
      for each hidden matrix two arrays of shape longer side x rank, one of shape shorter side x rank and one number;
      two arrays for every other parameter (8 bytes per entry in float32).

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
