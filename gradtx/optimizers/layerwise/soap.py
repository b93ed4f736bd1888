"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

    G' = Q_L^H G Q_R
    M  = b1 M + (1 - b1) G'
    V  = b2 V + (1 - b2) |G'|^2
    U  = Q_L (M / (1 - b1^t)) / (sqrt(V / (1 - b2^t)) + eps) Q_R^H
    L  = b L + (1 - b) G G^H,      R = b R + (1 - b) G^H G
    Q_L, Q_R = eigenvectors of L, R            at the first step, whose update is zero
    Q_L, Q_R = one orthogonal iteration        every `interval` steps: the Q of the QR decompositions of L Q_L and R Q_R

Vyas et al., 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", algorithm 3. As in the authors' code
(github.com/nikhilvyas/SOAP), the first gradient is only used to initialize L and R, and each step uses the bases of the
previous step, so no gradient is transformed by a basis that depends on that gradient. Before an iteration, the columns
of each basis are sorted by their eigenvalues, and V is sorted in the same way. M is stored in the eigenbasis and
transformed whenever the basis changes. This gives the same result as momentum in the original coordinates, with two
matrix products per step instead of four.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.matrices import matrix_axes
from gradtx.core.metrics import reports
from gradtx.core.slots import average_weights, counter, factor, per_matrix
from gradtx.core.value import dtype, flag, integer
from gradtx.linalg.eigenbasis import into_basis, out_of_basis, renewed_basis
from gradtx.linalg.gram import gram_of_columns, gram_of_rows, kept_if_finite
from gradtx.linalg.matrix_view import factored_sides
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["SoapState", "scale_by_soap", "soap"]


@reports("failures")
class SoapState(NamedTuple):
    """The state of `scale_by_soap`.

    `count`: the number of steps taken. `mu`, `nu`: both moments in the eigenbasis. `gram_rows`, `gram_columns`: L and R
    of each matrix. `basis_rows`, `basis_columns`: the eigenvectors of L and R. `failures`: for each matrix, how often a
    gradient or a basis contained NaN or infinity. `weights`: for each decay rate that is a schedule, the divisor of the
    bias correction, which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a
    schedule.
    """

    count: Array = counter()
    mu: Array = per_matrix(dtype="mu_dtype")
    nu: Array = per_matrix(real=True, signed=False)
    gram_rows: Array = factor(side="rows", where="has_rows")
    gram_columns: Array = factor(side="columns", where="has_columns")
    basis_rows: Array = factor(side="rows", start=1.0, where="has_rows")
    basis_columns: Array = factor(side="columns", start=1.0, where="has_columns")
    failures: Array = per_matrix(of="whole", dtype="int32")
    weights: dict[str, Array] = average_weights()


class scale_by_soap(Layerwise, state=SoapState, corrected=("b1", "b2"), every="interval", renews="after"):
    """Runs Adam in the eigenbasis of each matrix's Shampoo factors L and R.

    This is `soap` without learning rate and weight decay. The update of the first step is zero.

        U = Q_L Adam(Q_L^H G Q_R) Q_R^H,    Q_L, Q_R: eigenvectors of the moving averages L of G G^H and R of G^H G

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.95 (about the last 20 steps).
      shampoo_beta: Decay rate of L and R; a value closer to 1 averages over more steps. In [0, 1); default 0.95.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      interval: Number of steps between two refinements of the eigenbases, each of which costs a QR factorization per
        factor; a larger number costs less time but uses older bases. At least 1; default 10.
      max_precond_dim: Longest side of a matrix that gets a factor; a longer side is not transformed. At least 1;
        default 10000.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. The other side is then not transformed. Default False.
      precondition_1d: Whether vectors also get a full preconditioner. If not, vectors get Adam's update. Default False.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row. `gx.merge_axes` offers a different choice.

    A gradient that contains NaN or infinity is treated as zero, and a basis that contains NaN or infinity is replaced
    by the previous basis; `gx.metrics` counts both as `failures`. Derivatives treat the bases as constants.

    State: two arrays per parameter (8 bytes per entry in float32), and two n x n matrices for each side of length n
      that has a factor.

    Reference: Vyas et al., 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", algorithm 3.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_soap()
    >>> params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
    >>> state = tx.init(params)
    >>> state.basis_rows["w"].shape, state.basis_columns["w"].shape, state.basis_columns["b"]
    ((1, 4, 4), (1, 3, 3), None)
    """

    b1: Hyper = hyper(default=0.95, ge=0, lt=1)
    b2: Hyper = hyper(default=0.95, ge=0, lt=1)
    shampoo_beta: Hyper = hyper(default=0.95, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    interval: int = integer(default=10, ge=1)
    max_precond_dim: int = integer(default=10000, ge=1)
    one_sided: bool = flag(default=False)
    precondition_1d: bool = flag(default=False)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes()

    def has_rows(self, view: Any) -> bool:
        """Returns whether matrices with this view have a factor for their rows."""
        return self._has(view)[0]

    def has_columns(self, view: Any) -> bool:
        """Returns whether matrices with this view have a factor for their columns."""
        return self._has(view)[1]

    def _has(self, view: Any) -> tuple[bool, bool]:
        return factored_sides(view, self.max_precond_dim, one_sided=self.one_sided, vectors=self.precondition_1d)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        first, steps = t == 1, jnp.maximum(t - 1, 1)
        moved = self.weighed(numbers)
        kept = {name: jnp.where(first, numbers.weights[name], new) for name, new in moved.weights.items()}
        shared = Shared(
            first=first,
            rates=(jnp.where(first, 0.0, 1 - self.b1), jnp.where(first, 0.0, 1 - self.b2)),
            weights=(self.weight("b1", steps, numbers), self.weight("b2", steps, numbers)),
        )
        return shared, moved._replace(weights=kept)

    def to_stack(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        g, failed = leaf.finite_or_zeros(g)
        return g, slots._replace(failures=slots.failures + failed)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        bases = slots.basis_rows, slots.basis_columns
        g = into_basis(x, *bases)
        (rate1, rate2), (weight1, weight2) = shared.rates, shared.weights
        mu = slots.mu + (g - slots.mu) * rate1
        nu = slots.nu + (leaf.abs_sq(g) - slots.nu) * rate2
        u = out_of_basis(mu / ((leaf.root(nu / weight2) + self.eps) * weight1), *bases)
        rows, columns = slots.gram_rows, slots.gram_columns
        constant = lax.stop_gradient(x)
        if rows is not None:
            rows = kept_if_finite(leaf.moment(rows, gram_of_rows(constant), self.shampoo_beta), rows)
        if columns is not None:
            columns = kept_if_finite(leaf.moment(columns, gram_of_columns(constant), self.shampoo_beta), columns)
        return u, slots._replace(mu=mu, nu=nu, gram_rows=rows, gram_columns=columns)

    def renew_stack(self, x: Array, slots: Slots, shared: Any) -> Any:
        old, nu, new = (slots.basis_rows, slots.basis_columns), slots.nu, []
        for axis, gram, basis in (1, slots.gram_rows, old[0]), (2, slots.gram_columns, old[1]):
            if basis is None:
                new.append(None)
                continue
            basis, order = renewed_basis(*lax.stop_gradient((gram, basis)), shared.first)
            nu = jnp.take_along_axis(nu, jnp.expand_dims(order, 3 - axis), axis)
            new.append(basis)
        checks = [jnp.all(jnp.isfinite(basis), axis=(1, 2)) for basis in new if basis is not None]
        fine = functools.reduce(jnp.logical_and, checks, jnp.ones(len(x), bool))
        mu = into_basis(out_of_basis(slots.mu, *old), *new)
        found = slots._replace(mu=mu, nu=nu, basis_rows=new[0], basis_columns=new[1])
        kept = jax.tree.map(lambda x, y: jnp.where(jnp.expand_dims(fine, range(1, x.ndim)), x, y), found, slots)
        return kept._replace(failures=slots.failures + ~fine)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


@constructor
def soap(
    learning_rate: HyperArg,
    b1: HyperArg = 0.95,
    b2: HyperArg = 0.95,
    shampoo_beta: HyperArg = 0.95,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 0.01,
    mask: Mask = None,
    interval: int = 10,
    *,
    max_precond_dim: int = 10000,
    one_sided: bool = False,
    precondition_1d: bool = False,
    mu_dtype: Any = None,
    weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> chain:
    """Runs SOAP: Adam in the eigenbasis of Shampoo's preconditioner, with decoupled weight decay.

    Use it in place of AdamW when matrix products are cheap: SOAP usually needs fewer steps (Vyas et al., 2024, "SOAP:
    Improving and Stabilizing Shampoo using Adam", algorithm 3):

        p <- p - learning_rate * (Q_L Adam(Q_L^H G Q_R) Q_R^H + weight_decay * p)

    where Q_L and Q_R are the eigenvectors of the moving averages L of G G^H and R of G^H G. The update of the first
    step is zero, apart from weight decay.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 3e-3 in the paper. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.95 (about the last 20 steps).
      shampoo_beta: Decay rate of L and R; a value closer to 1 averages over more steps. In [0, 1); default 0.95.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0.01.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      interval: Number of steps between two refinements of the eigenbases, each of which costs a QR factorization per
        factor; a larger number costs less time but uses older bases. At least 1; default 10.
      max_precond_dim: Longest side of a matrix that gets a factor; a longer side is not transformed. At least 1;
        default 10000.
      one_sided: Whether only the shorter side of each matrix gets a full preconditioner, which saves memory and time if
        the other side is long. The other side is then not transformed. Default False.
      precondition_1d: Whether vectors also get a full preconditioner. If not, vectors get Adam's update. Default False.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row. `gx.merge_axes` offers a different choice.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32),
      and two n x n matrices for each side of length n that has a factor.

    >>> import gradtx as gx
    >>> gx.soap(3e-3, interval=20).links[0].interval
    20
    """
    sizes = {"max_precond_dim": max_precond_dim, "one_sided": one_sided, "precondition_1d": precondition_1d}
    view = {"mu_dtype": mu_dtype, "weight_dimension_numbers": weight_dimension_numbers}
    rule = scale_by_soap(b1, b2, shampoo_beta, eps, interval, **sizes, **view)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
