"""APOLLO: scales the gradient by the factors with which Adam scales a random projection of the gradient.

    R_t = P_t^T G_t                           P_t: normal, variance 1 / rank, drawn again every update_proj_gap steps
    A_t = Adam's update of R_t
    s_t = |A_t| / |R_t|                       norm of each column ('channel') or of the whole matrix ('tensor')
    u_t = scale * G_t diag(s_t)               scaled down so that |u_t| <= growth * |u_(t-1)|

for matrices G_t with at most as many rows as columns; other matrices are transposed first. Zhu et al., 2024, "APOLLO:
SGD-like Memory, AdamW-level Performance", algorithm 1. APOLLO-Mini has rank 1, one factor for the whole matrix, and
scale sqrt(128). This implementation differs from the authors' code in two points: eps is added after the bias
correction of the second moment, as in Adam, and an update of zeros does not limit later updates. P_t is computed from
`seed` at every step and not stored.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, tree
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, factor, per_matrix
from gradtx.core.value import choice, dtype, integer
from gradtx.linalg.low_rank import limited_growth, wide
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.types import Mask, Slots

__all__ = ["ApolloState", "apollo", "apollo_mini", "scale_by_apollo"]


class ApolloState(NamedTuple):
    """The state of `scale_by_apollo`.

    `count`: the number of steps taken. `mu`, `nu`: Adam's moments of the projected gradient R. `norm`: the norm of each
    matrix's previous update, 0 before the first update. `weights`: for each decay rate that is a schedule, the divisor
    of the bias correction, which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate
    is a schedule.
    """

    count: Array = counter()
    mu: Array = factor(side="longer", rank="rank", dtype="mu_dtype")
    nu: Array = factor(side="longer", rank="rank", real=True, signed=False)
    norm: Array = per_matrix(of="whole", real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_apollo(Layerwise, state=ApolloState, corrected=("b1", "b2")):
    """Scales each matrix's gradient by the factors with which Adam scales a random projection of the gradient.

    This is `apollo` for matrices, without learning rate and weight decay:

        u = scale * G diag(|A| / |R|),    R: random projection of G,   A: Adam's update of R

    Args:
      rank: Rank of the projection; a lower rank saves memory but approximates the gradient less closely, and a matrix
        with a side shorter than `rank` is projected to the length of that side. At least 1; default 256.
      update_proj_gap: Number of steps between two recomputations of the projection. At least 1; default 200.
      scale: Factor of the update; about sqrt(columns / rank) compensates for the smaller norm of a low-rank projection.
        Default 1.
      scale_type: 'channel' uses one factor for each position along the longer side of the matrix, and 'tensor' one
        factor for the whole matrix. Default 'channel'.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      growth: Largest factor by which the norm of a matrix's update may grow from one step to the next; infinity
        disables the bound. Positive; default 1.01.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Not negative; default 0.

    State: for each matrix two arrays of shape longer side x rank, and one number.

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Zhu et al., 2024, "APOLLO: SGD-like Memory, AdamW-level Performance", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_apollo(rank=1, scale_type="tensor")
    >>> g = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    >>> updates, state = tx.update(g, tx.init(g))
    >>> print((updates / updates[0, 0]).round(3), state.mu.shape)
    [[1.    0.   ]
     [0.    0.333]] (1, 2, 1)
    """

    rank: int = integer(default=256, ge=1)
    update_proj_gap: int = integer(default=200, ge=1)
    scale: Hyper = hyper(default=1.0)
    scale_type: str = choice(default="channel", options=("channel", "tensor"))
    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    growth: Hyper = hyper(default=1.01, gt=0, infinite=True)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)
    seed: int = integer(default=0, ge=0, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections, grow_nu = self.debias("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        draw = (t - 1) // self.update_proj_gap
        return Shared(corrections=corrections, grow_nu=grow_nu, draw=draw), self.weighed(numbers)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        if not x.size:
            return x, slots
        g, rank = wide(x), slots.mu.shape[-1]
        # R and eps are divided by 8 times the shorter side, so that no product overflows; A stays the same.
        share = 1 / (8 * g.shape[-2])
        key = jax.random.fold_in(jax.random.key(self.seed), shared.draw)
        p = jax.random.normal(key, (g.shape[-2], rank), g.real.dtype) * (share / math.sqrt(rank))
        low = jnp.matmul(jnp.swapaxes(g, -1, -2), p.astype(g.dtype), precision=lax.Precision.HIGHEST)
        mu = leaf.moment(slots.mu, low, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(low), self.b2)
        root = leaf.root(nu * shared.grow_nu) + self.eps * share
        adam = leaf.debiased_ratio(mu, low, root, shared.corrections)
        over = (low.ndim - 1,) if self.scale_type == "channel" else (low.ndim - 2, low.ndim - 1)
        unit, size = tree.scaled(low, over)
        factor = tree.norm(adam, axes=over) * jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        u = g * jnp.swapaxes(share / unit, -1, -2) * jnp.swapaxes(factor, -1, -2)
        u, norm = limited_growth(u, slots.norm, self.growth)
        u = u if x.shape[-2] < x.shape[-1] else jnp.swapaxes(u, -1, -2)
        return u * self.scale, slots._replace(mu=mu, nu=nu, norm=norm)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


@constructor
def apollo(
    learning_rate: HyperArg,
    rank: int = 256,
    update_proj_gap: int = 200,
    scale: HyperArg = 1.0,
    scale_type: str = "channel",
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    growth: HyperArg = 1.01,
    seed: int = 0,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    apollo_weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs APOLLO on the hidden matrices and AdamW on all other parameters.

    Use it to train with a fraction of Adam's memory. APOLLO needs less time than GaLore, because random projections
    need no singular vectors (Zhu et al., 2024, "APOLLO: SGD-like Memory, AdamW-level Performance", algorithm 1):

        p <- p - learning_rate * (scale * G diag(|A| / |R|) + weight_decay * p)

    where R is a random projection of the gradient G to `rank` rows, and A is Adam's update of R. AdamW uses the same
    `b1`, `b2`, `eps`, `weight_decay` and `mask`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      rank: Rank of the projection; a lower rank saves memory but approximates the gradient less closely, and a matrix
        with a side shorter than `rank` is projected to the length of that side. At least 1; default 256.
      update_proj_gap: Number of steps between two recomputations of the projection. At least 1; default 200.
      scale: Factor of the update; about sqrt(columns / rank) compensates for the smaller norm of a low-rank projection.
        Default 1.
      scale_type: 'channel' uses one factor for each position along the longer side of the matrix, and 'tensor' one
        factor for the whole matrix. Default 'channel'.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      growth: Largest factor by which the norm of a matrix's update may grow from one step to the next; infinity
        disables the bound. Positive; default 1.01.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Not negative; default 0.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      apollo_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' (the hidden matrices) and 'adam', whose `update` needs `params`. State:
      for each hidden matrix two arrays of shape longer side x rank and one number; two arrays for every other parameter
      (8 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.apollo(0.01, rank=4).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    numbers = muon_labels(apollo_weight_dimension_numbers).numbers
    rule = scale_by_apollo(
        rank,
        update_proj_gap,
        scale,
        scale_type,
        b1,
        b2,
        eps,
        growth=growth,
        weight_dimension_numbers=numbers,
        seed=seed,
    )
    adam: dict[str, Any] = {"adam_b1": b1, "adam_b2": b2, "adam_eps": eps, "adam_weight_decay": weight_decay}
    return matrices_with_adamw(
        rule, learning_rate, weight_decay, mask, weight_dimension_numbers=numbers, decouple_lr=decouple_lr, **adam
    )


@constructor
def apollo_mini(
    learning_rate: HyperArg,
    scale: HyperArg = 128**0.5,
    update_proj_gap: int = 200,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    growth: HyperArg = 1.01,
    seed: int = 0,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    apollo_weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs APOLLO-Mini: `apollo` with rank 1 and one factor for each matrix.

    Use it when there is almost no memory for optimizer state: the state is about as small as that of SGD without
    momentum (Zhu et al., 2024, "APOLLO: SGD-like Memory, AdamW-level Performance").

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      scale: Factor of the update, which compensates for the small norm of a projection to one row; sqrt(128) by
        default, as in the paper.
      update_proj_gap: Number of steps between two recomputations of the projection. At least 1; default 200.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      growth: Largest factor by which the norm of a matrix's update may grow from one step to the next; infinity
        disables the bound. Positive; default 1.01.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Not negative; default 0.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      apollo_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' (the hidden matrices) and 'adam', whose `update` needs `params`. State:
      for each hidden matrix two vectors of the length of its longer side and one number; two arrays for every other
      parameter (8 bytes per entry in float32).

    >>> import jax, gradtx as gx
    >>> params = {"kernel": jax.ShapeDtypeStruct((1000, 1000), "float32")}
    >>> gx.tree.nbytes(jax.eval_shape(gx.apollo_mini(0.01).init, params)) / gx.tree.nbytes(params)
    0.002007
    """
    more = {"growth": growth, "seed": seed, "b1": b1, "b2": b2, "eps": eps, "decouple_lr": decouple_lr}
    more |= {"weight_decay": weight_decay, "mask": mask, "scale": scale, "scale_type": "tensor"}
    view = {"apollo_weight_dimension_numbers": apollo_weight_dimension_numbers}
    return apollo(learning_rate, 1, update_proj_gap, **more, **view)
