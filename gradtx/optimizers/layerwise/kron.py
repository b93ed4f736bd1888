"""Kron: PSGD with Kronecker factors. The preconditioner has one factor for each side of a matrix and whitens gradients.

    M = b1 M + (1 - b1) G,              X = M / (1 - b1^t)
    U = Q_L^H Q_L X Q_R^H Q_R           clipped to root mean square `clip_rms`

At random steps, Q_L and Q_R are first fitted to X; see `gradtx.linalg.whitening` for the formulas. Li, 2018,
"Preconditioned Stochastic Gradient Descent"; Pooladzandi and Li, 2024, "Curvature-Informed SGD via General Purpose
Lie-Group Preconditioners". The defaults are the same as in github.com/evanatyourservice/kron_torch, which has no
damping.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, mesh, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.matrices import matrix_axes
from gradtx.core.metrics import reports
from gradtx.core.slots import average_weights, counter, factor, per_matrix, per_param, per_tree
from gradtx.core.value import dtype, flag, integer, seed
from gradtx.linalg.matrix_view import factored_sides
from gradtx.linalg.whitening import fitted, preconditioned
from gradtx.schedules.exponential import exponential_decay
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["KronState", "kron", "scale_by_kron"]

_LESS_AND_LESS = exponential_decay(1.0, 1000, math.exp(-1), 500, end_value=0.03)


@reports("failures")
class KronState(NamedTuple):
    """The state of `scale_by_kron`.

    `count`: the number of steps taken. `mu`: the momentum. `rows`, `columns`: the factors Q_L and Q_R of each matrix.
    `failures`: for each matrix, how often a gradient or new factors contained NaN or infinity. `rng_key`: the random
    key of the next step. `weights`: for each decay rate that is a schedule, the divisor of the bias correction, which
    is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    rows: Array = factor(side="rows", start=1.0, where="has_rows", diagonal="diagonal_rows")
    columns: Array = factor(side="columns", start="init_scale", diagonal="diagonal_columns")
    failures: Array = per_matrix(of="whole", dtype="int32")
    rng_key: Array = per_tree(start="first_key")
    weights: dict[str, Array] = average_weights()


class scale_by_kron(Layerwise, state=KronState, corrected=("b1",), takes=("key",)):
    """Whitens the momentum of matrices with one Kronecker factor per side.

    This is `kron` without learning rate and weight decay:

        U = Q_L^H Q_L X Q_R^H Q_R,    clipped to root mean square `clip_rms`

    where X is the momentum, and the factors Q_L and Q_R are fitted to X at random steps.

    Args:
      b1: Decay rate of the momentum, to which the factors are fitted; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      update_probability: Probability that the factors are fitted at a step: a number or a schedule. The default is 1
        for 500 steps and then decays to 0.03, the value after about 4000 steps. In [0, 1].
      precond_lr: Step size of a fit: how much a factor changes, relative to its own size. In [0, 1); default 0.1.
      clip_rms: Largest root mean square of a leaf's update; infinity disables clipping. Positive; default 1.1.
      damping: Size of the random noise that is added to a matrix before a fit, relative to its root mean square, so
        that directions without gradient are not scaled up without limit. Not negative; default 1e-6.
      init_scale: Initial product of the factors of a matrix, as a multiple of the identity. Positive; default 1.
      max_size_triangular: Longest side that gets a triangular factor; longer sides get a diagonal factor. At least 1;
        default 8192.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. Default False.
      triangular_1d: Whether vectors get triangular factors instead of diagonal factors. Default False.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      key: Seed of the random numbers, an integer; the same seed gives the same run. To control the random numbers of
        one step, pass `update(..., key=k)` with a JAX key `k`. Default 0.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    The random numbers depend only on the key, the step and the shape: all matrices of the same shape use the same
    random numbers, on any mesh. A momentum of zeros does not change the factors. A gradient that contains NaN or
    infinity is treated as zero, and factors that contain NaN or infinity are replaced by the previous factors;
    `gx.metrics` counts both as `failures`. Derivatives treat the factors as constants.

    State: one array per parameter (4 bytes per entry in float32), and for each side of length n an n x n matrix or, for
      a diagonal factor, a vector of length n.

    Reference: Pooladzandi and Li, 2024, "Curvature-Informed SGD via General Purpose Lie-Group Preconditioners".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> state = gx.scale_by_kron().init({"w": jnp.ones((4, 3)), "b": jnp.ones(3)})
    >>> state.rows["w"].shape, state.columns["w"].shape, state.rows["b"], state.columns["b"].shape
    ((1, 4, 4), (1, 3, 3), None, (1, 3))
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    update_probability: Hyper = hyper(default=_LESS_AND_LESS, ge=0, le=1)
    precond_lr: Hyper = hyper(default=0.1, ge=0, lt=1)
    clip_rms: Hyper = hyper(default=1.1, gt=0, infinite=True)
    damping: Hyper = hyper(default=1e-6, ge=0)
    init_scale: Hyper = hyper(default=1.0, gt=0)
    max_size_triangular: int = integer(default=8192, ge=1)
    one_sided: bool = flag(default=False)
    triangular_1d: bool = flag(default=False)
    mu_dtype: Any = dtype(default=None)
    key: int = seed(default=0)
    weight_dimension_numbers: Any = matrix_axes()

    def has_rows(self, view: Any) -> bool:
        """Returns whether matrices with this view have a factor for their rows; a matrix with one row does not."""
        return view.fan_in > 1

    def diagonal_rows(self, view: Any) -> bool:
        """Returns whether the factor of the rows is diagonal."""
        return not self._triangular(view)[0]

    def diagonal_columns(self, view: Any) -> bool:
        """Returns whether the factor of the columns is diagonal."""
        return not self._triangular(view)[1]

    def _triangular(self, view: Any) -> tuple[bool, bool]:
        return factored_sides(view, self.max_size_triangular, one_sided=self.one_sided, vectors=self.triangular_1d)

    def first_key(self, params: Any) -> Array:
        """Returns the state's random key before the first step."""
        del params
        return jax.random.PRNGKey(self.key)

    def at_step(self, t: Array, numbers: Any, *, key: Any) -> tuple[Any, Any]:
        following, sample = jax.random.split(numbers.rng_key) if key is None else (numbers.rng_key, key)
        coin, probe, noise = jax.random.split(sample, 3)
        fits = jax.random.uniform(coin, (), jnp.float32) < self.update_probability
        shared = Shared(weight=self.weight("b1", t, numbers), fits=fits, probe=probe, noise=noise)
        return shared, self.weighed(numbers)._replace(rng_key=following)

    def to_stack(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        g, failed = leaf.finite_or_zeros(g)
        mu = leaf.moment(slots.mu, g, self.b1)
        return mu / shared.weight, slots._replace(mu=mu, failures=slots.failures + failed)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        constant = lax.stop_gradient((x, slots))
        if leaf.is_number(self.update_probability) and self.update_probability == 1:
            slots = self._fitted(*constant, shared)
        else:
            slots = mesh.cond(shared.fits, lambda: self._fitted(*constant, shared), lambda: slots)
        return preconditioned(x, slots.rows, slots.columns), slots

    def _fitted(self, x: Array, slots: Slots, shared: Any) -> Any:
        v, noise = (jax.random.normal(key, x.shape[1:], x.dtype)[None] for key in (shared.probe, shared.noise))
        largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=0)
        rms = jnp.sqrt(jnp.mean(jnp.abs(x / jnp.where(largest > 0, largest, 1)) ** 2, axis=(1, 2), keepdims=True))
        rate, damping = lax.stop_gradient((self.precond_lr, self.damping))
        v, x = jnp.broadcast_to(v, x.shape), x + noise * (largest * rms * damping)
        old = slots.rows, slots.columns
        new = fitted(x, v, *old, rate)
        finite = [jnp.all(jnp.isfinite(q), axis=tuple(range(1, q.ndim))) for q in new if q is not None]
        fine = functools.reduce(jnp.logical_and, finite)
        kept = fine & (largest[:, 0, 0] > 0)
        rows, columns = jax.tree.map(lambda q, q0: jnp.where(jnp.expand_dims(kept, range(1, q.ndim)), q, q0), new, old)
        return slots._replace(rows=rows, columns=columns, failures=slots.failures + ~fine)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        first, second = tree.shrinking(g, self.clip_rms * math.sqrt(max(g.size, 1)))
        return g * first * second, slots


@constructor
def kron(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    update_probability: HyperArg = _LESS_AND_LESS,
    precond_lr: HyperArg = 0.1,
    clip_rms: HyperArg = 1.1,
    mu_dtype: Any = None,
    *,
    damping: HyperArg = 1e-6,
    init_scale: HyperArg = 1.0,
    max_size_triangular: int = 8192,
    one_sided: bool = False,
    triangular_1d: bool = False,
    key: int = 0,
    weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> chain:
    """Runs PSGD with Kronecker factors, which whitens gradients, with decoupled weight decay.

    Use it as a second-order method for matrices that needs only matrix products and triangular solves, and no
    eigenvectors. Use about a third of Adam's learning rate (Li, 2018, "Preconditioned Stochastic Gradient Descent";
    Pooladzandi and Li, 2024, "Curvature-Informed SGD via General Purpose Lie-Group Preconditioners"):

        p <- p - learning_rate * (Q_L^H Q_L X Q_R^H Q_R + weight_decay * p)

    where X is the momentum, and the factors Q_L and Q_R are fitted to X at random steps.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). About a third of the learning
        rate for Adam, such as 3e-4. Not negative.
      b1: Decay rate of the momentum, to which the factors are fitted; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      update_probability: Probability that the factors are fitted at a step: a number or a schedule. The default is 1
        for 500 steps and then decays to 0.03, the value after about 4000 steps. In [0, 1].
      precond_lr: Step size of a fit: how much a factor changes, relative to its own size. In [0, 1); default 0.1.
      clip_rms: Largest root mean square of a leaf's update; infinity disables clipping. Positive; default 1.1.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      damping: Size of the random noise that is added to a matrix before a fit, relative to its root mean square, so
        that directions without gradient are not scaled up without limit. Not negative; default 1e-6.
      init_scale: Initial product of the factors of a matrix, as a multiple of the identity. Positive; default 1.
      max_size_triangular: Longest side that gets a triangular factor; longer sides get a diagonal factor. At least 1;
        default 8192.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. Default False.
      triangular_1d: Whether vectors get triangular factors instead of diagonal factors. Default False.
      key: Seed of the random numbers, an integer; the same seed gives the same run. To control the random numbers of
        one step, pass `update(..., key=k)` with a JAX key `k`. Default 0.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32), and
      for each side of length n an n x n matrix or, for a diagonal factor, a vector of length n.

    >>> import gradtx as gx
    >>> gx.kron(3e-4, update_probability=0.1).links[0].clip_rms
    1.1
    """
    rule = scale_by_kron(
        b1,
        update_probability,
        precond_lr=precond_lr,
        clip_rms=clip_rms,
        mu_dtype=mu_dtype,
        damping=damping,
        init_scale=init_scale,
        max_size_triangular=max_size_triangular,
        one_sided=one_sided,
        triangular_1d=triangular_1d,
        key=key,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
