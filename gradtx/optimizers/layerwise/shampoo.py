"""Shampoo: divides a matrix's gradient by roots of the second moments of its rows and columns.

    L = b2 L + (1 - b2) G G^H,    R = b2 R + (1 - b2) G^H G          if b2 = 1: L + G G^H, R + G^H G
    P = L^(-1/4) G R^(-1/4)                                          if there is only one factor, its power is -1/2
    U = P |D| / |P|                                                  D: a different method's update (linalg/grafting.py)

Before the roots are computed, L and R are divided by 1 - b2^t, the sum of their averaging weights, and eps times the
largest eigenvalue is added. Gupta, Koren and Singer, 2018, "Shampoo: Preconditioned Stochastic Tensor Optimization";
blocks, roots that are updated only every few steps, and grafting are from Anil et al., 2020, "Scalable Second Order
Optimization for Deep Learning".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.matrices import matrix_axes
from gradtx.core.metrics import reports
from gradtx.core.slots import average_weights, counter, factor, per_matrix, per_param
from gradtx.core.value import choice, dtype, flag, integer
from gradtx.linalg.grafting import GRAFTS, graft_direction, grafted
from gradtx.linalg.gram import gram_of_columns, gram_of_rows, kept_if_finite
from gradtx.linalg.inverse_root import METHODS, inverse_root
from gradtx.linalg.matrix_view import factored_sides
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.momentum import ema

__all__ = ["ShampooState", "scale_by_shampoo", "shampoo"]


@reports("failures")
class ShampooState(NamedTuple):
    """The state of `scale_by_shampoo`.

    `count`: the number of steps taken. `gram_rows`, `gram_columns`: L and R of each matrix. `root_rows`,
    `root_columns`: their inverse roots. `graft_nu`: the second moment of the graft. `failures`: for each matrix, how
    often a gradient or a root contained NaN or infinity, or the iteration for a root failed. `weights`: if the decay
    rate is a schedule, the sum of the averaging weights.
    """

    count: Array = counter()
    gram_rows: Array = factor(side="rows", where="has_rows")
    gram_columns: Array = factor(side="columns", where="has_columns")
    root_rows: Array = factor(side="rows", start=1.0, where="has_rows")
    root_columns: Array = factor(side="columns", start=1.0, where="has_columns")
    graft_nu: Array = per_param(real=True, signed=False, when="has_graft_nu")
    failures: Array = per_matrix(of="whole", dtype="int32")
    weights: dict[str, Array] = average_weights()


class scale_by_shampoo(Layerwise, state=ShampooState, corrected=("b2",), every="interval"):
    """Multiplies each matrix's gradient from both sides by inverse roots of second-moment matrices.

    This is `shampoo` without momentum, learning rate and weight decay:

        U = L^(-1/4) G R^(-1/4), scaled to the norm of a different method's update (the graft)

    where L and R are moving averages of G G^H and G^H G.

    Args:
      b2: Decay rate of L and R, and of the graft's second moment; with 1, L and R are sums instead of averages, as in
        the first paper. In [0, 1]; default 0.999.
      eps: Added to L and R, as a fraction of their largest eigenvalue. Not negative; default 1e-6.
      graft: The method whose update gives the norm of each leaf's update; 'none' keeps Shampoo's norm. One of 'none',
        'sgd', 'adagrad', 'rmsprop', 'adam'; default 'adam'.
      normalize_graft: Whether to divide each leaf's gradient by its norm before computing the graft. Default False.
      graft_eps: Added to the graft's denominator for numerical stability. Not negative; default 1e-8.
      interval: Number of steps between two computations of the roots; a larger number costs less time but uses older
        roots. At least 1; default 10.
      start_step: Number of first steps that use the update of the graft, while L and R are already accumulated. Not
        negative; default 0.
      block_size: Largest size of a factor. A longer side is split into blocks of equal length, padded with zeros at the
        end: a 768 x 3072 matrix becomes three 768 x 1024 matrices. Leaves with any number of axes are split in the same
        way. At least 1; default 1024.
      max_dim: Longest side that gets a factor; a longer side gets no factor and is not split. At least 1; default 8192.
      exponent: The number p in L^(-1/p) and R^(-1/p); 0 uses twice the number of factors, which is 4 or 2. Not
        negative; default 0.
      root: Method for the roots: eigenvalues ('eigh'), or the coupled Newton iteration ('newton'), which needs only
        matrix products. Default 'eigh'.
      root_dtype: Dtype in which roots are computed, such as 'float64'; by default the gradient's dtype, but at least
        float32.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. Default False.
      precondition_1d: Whether vectors get a factor. If not, the update of a vector, like that of a scalar, is the
        update of the graft. Default False.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    A gradient that contains NaN or infinity is treated as zero. A root is replaced by the previous root if it contains
    NaN or infinity, or if the iteration did not converge. `gx.metrics` counts all these cases as `failures`.
    Derivatives treat the roots as constants.

    State: two n x n matrices for each side of length n that has a factor, and, if the graft has a second moment, one
      array per parameter (4 bytes per entry in float32).

    Reference: Anil et al., 2020, "Scalable Second Order Optimization for Deep Learning".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_shampoo(graft="none", eps=0.0)
    >>> g = jnp.diag(jnp.array([4.0, 1.0]))
    >>> tx.update(g, tx.init(g))[0].round(5).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    b2: Hyper = hyper(default=0.999, ge=0, le=1)
    eps: Hyper = hyper(default=1e-6, ge=0)
    graft: str = choice(default="adam", options=GRAFTS)
    normalize_graft: bool = flag(default=False)
    graft_eps: Hyper = hyper(default=1e-8, ge=0)
    interval: int = integer(default=10, ge=1)
    start_step: int = integer(default=0, ge=0)
    block_size: int = integer(default=1024, ge=1)
    max_dim: int = integer(default=8192, ge=1)
    exponent: int = integer(default=0, ge=0)
    root: str = choice(default="eigh", options=METHODS)
    root_dtype: Any = dtype(default=None)
    one_sided: bool = flag(default=False)
    precondition_1d: bool = flag(default=False)
    weight_dimension_numbers: Any = matrix_axes()

    @property
    def has_graft_nu(self) -> bool:
        """Returns whether the graft has a second moment."""
        return self.graft not in ("none", "sgd")

    def has_rows(self, view: Any) -> bool:
        """Returns whether matrices with this view have a factor for their rows."""
        return self._has(view)[0]

    def has_columns(self, view: Any) -> bool:
        """Returns whether matrices with this view have a factor for their columns."""
        return self._has(view)[1]

    def _has(self, view: Any) -> tuple[bool, bool]:
        return factored_sides(view, self.max_dim, one_sided=self.one_sided, vectors=self.precondition_1d)

    def matrix_view(self, view: Any) -> Any:
        return view.blocked(*(self.block_size if yes else None for yes in self._has(view)))

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        sums = jnp.equal(self.b2, 1)
        rate, weight = jnp.where(sums, 1.0, 1 - self.b2), jnp.where(sums, 1.0, self.weight("b2", t, numbers))
        return Shared(rate=rate, weight=weight, starts=t > self.start_step), self.weighed(numbers)

    def to_stack(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        g, failed = leaf.finite_or_zeros(g)
        return g, slots._replace(failures=slots.failures + failed)

    def _grams(self, x: Array, slots: Any, shared: Any) -> list[Array | None]:
        return [
            None if old is None else kept_if_finite(old * self.b2 + product(lax.stop_gradient(x)) * shared.rate, old)
            for old, product in ((slots.gram_rows, gram_of_rows), (slots.gram_columns, gram_of_columns))
        ]

    def renew_stack(self, x: Array, slots: Any, shared: Any) -> Any:
        grams, roots, failures = self._grams(x, slots, shared), [slots.root_rows, slots.root_columns], slots.failures
        some = [i for i, gram in enumerate(grams) if gram is not None]
        for i in some:
            of, eps = lax.stop_gradient((grams[i] / shared.weight, self.eps))
            root, found = inverse_root(of, self.exponent or 2 * len(some), eps, self.root, self.root_dtype)
            roots[i], failures = jnp.where(found[:, None, None], root, roots[i]), failures + ~found
        return slots._replace(root_rows=roots[0], root_columns=roots[1], failures=failures)

    def on_stack(self, x: Array, slots: Any, shared: Any) -> tuple[Array, Any]:
        rows, columns = self._grams(x, slots, shared)
        x = x if slots.root_rows is None else slots.root_rows @ x
        x = x if slots.root_columns is None else x @ slots.root_columns
        return x, slots._replace(gram_rows=rows, gram_columns=columns)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        numbers = {"b2": self.b2, "rate": shared.rate, "weight": shared.weight, "eps": self.graft_eps}
        d, nu = graft_direction(self.graft, before, slots.graft_nu, normalize=self.normalize_graft, **numbers)
        u = g if self.graft == "none" else grafted(g, d)
        if slots.root_rows is None and slots.root_columns is None:
            u = d
        return (jnp.where(shared.starts, u, d) if self.start_step else u), slots._replace(graft_nu=nu)


@constructor
def shampoo(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-6,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    graft: str = "adam",
    interval: int = 10,
    start_step: int = 0,
    mu_dtype: Any = None,
    *,
    normalize_graft: bool = False,
    graft_eps: HyperArg = 1e-8,
    block_size: int = 1024,
    max_dim: int = 8192,
    exponent: int = 0,
    root: str = "eigh",
    root_dtype: Any = None,
    one_sided: bool = False,
    precondition_1d: bool = False,
    weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> chain:
    """Runs Shampoo, which preconditions matrices from both sides, with momentum and decoupled weight decay.

    Use it when matrix products are cheap and you want to train with fewer steps than with AdamW. With the default
    graft, use the learning rate that you use with Adam (Gupta, Koren and Singer, 2018, "Shampoo: Preconditioned
    Stochastic Tensor Optimization"; Anil et al., 2020, "Scalable Second Order Optimization for Deep Learning"):

        U  = L^(-1/4) G R^(-1/4), scaled to the norm of a different method's update (the graft)
        p <- p - learning_rate * (moving average of U + weight_decay * p)

    where L and R are moving averages of G G^H and G^H G.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the moving average of the updates; a value closer to 1 averages over more steps. In [0, 1);
        default 0.9.
      b2: Decay rate of L and R, and of the graft's second moment; with 1, L and R are sums instead of averages, as in
        the first paper. In [0, 1]; default 0.999.
      eps: Added to L and R, as a fraction of their largest eigenvalue. Not negative; default 1e-6.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      graft: The method whose update gives the norm of each leaf's update; 'none' keeps Shampoo's norm. One of 'none',
        'sgd', 'adagrad', 'rmsprop', 'adam'; default 'adam'.
      interval: Number of steps between two computations of the roots; a larger number costs less time but uses older
        roots. At least 1; default 10.
      start_step: Number of first steps that use the update of the graft, while L and R are already accumulated. Not
        negative; default 0.
      mu_dtype: Dtype in which the average of the updates is stored, such as `jnp.bfloat16` to save memory; by default
        the parameter's dtype, but at least float32.
      normalize_graft: Whether to divide each leaf's gradient by its norm before computing the graft. Default False.
      graft_eps: Added to the graft's denominator for numerical stability. Not negative; default 1e-8.
      block_size: Largest size of a factor. A longer side is split into blocks of equal length, padded with zeros at the
        end: a 768 x 3072 matrix becomes three 768 x 1024 matrices. Leaves with any number of axes are split in the same
        way. At least 1; default 1024.
      max_dim: Longest side that gets a factor; a longer side gets no factor and is not split. At least 1; default 8192.
      exponent: The number p in L^(-1/p) and R^(-1/p); 0 uses twice the number of factors, which is 4 or 2. Not
        negative; default 0.
      root: Method for the roots: eigenvalues ('eigh'), or the coupled Newton iteration ('newton'), which needs only
        matrix products. Default 'eigh'.
      root_dtype: Dtype in which roots are computed, such as 'float64'; by default the gradient's dtype, but at least
        float32.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. Default False.
      precondition_1d: Whether vectors get a factor. If not, the update of a vector, like that of a scalar, is the
        update of the graft. Default False.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two n x n matrices for each side of length n that has a
      factor, one array per parameter for the average (4 bytes per entry in float32), and one more array if the graft
      has a second moment.

    >>> import gradtx as gx
    >>> gx.shampoo(1e-3, interval=20).links[1]
    ema(decay=0.9)
    """
    rule = scale_by_shampoo(
        b2,
        eps,
        graft,
        normalize_graft,
        graft_eps,
        interval,
        start_step,
        block_size=block_size,
        max_dim=max_dim,
        exponent=exponent,
        root=root,
        root_dtype=root_dtype,
        one_sided=one_sided,
        precondition_1d=precondition_1d,
        weight_dimension_numbers=weight_dimension_numbers,
    )
    fields = (("decay", b1, "b1"), ("accumulator_dtype", mu_dtype, "mu_dtype"))
    average = ema(**{field: ema.check_field(field, x, who="shampoo", name=name) for field, x, name in fields})
    return chain(rule, average, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
