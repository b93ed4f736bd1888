"""SPlus: computes the signs of the momentum in the eigenbasis of Shampoo's factors.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    u_t = Q_L sign(Q_L^H m_t Q_R) Q_R^H * 2 / (inputs + outputs)
    L_t = b2 * L_(t-1) + (1 - b2) * g_t g_t^H,   R_t = b2 * R_(t-1) + (1 - b2) * g_t^H g_t
    Q_L, Q_R: eigenvectors of L_t and R_t, computed after the first step and then every `interval` steps

Frans et al., 2025, "A Stable Whitening Optimizer for Efficient Neural Network Training", algorithm 1, in the order of
the authors' code: the first step uses the signs in the original coordinates. For all other parameters `splus` uses the
signs of the momentum with the learning rate `nonstandard_constant` (0.001) * learning_rate. The paper evaluates
averaged weights; to do the same, wrap `splus` in `ema_params` with a decay of 0.999. After few gradients, L and R are
singular, and the eigenvectors of their null spaces are not unique. Here they are chosen in the same way on every
machine, and entries that consist only of rounding errors have the sign zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf
from gradtx.core import mask as masks
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes, renewed
from gradtx.core.partition import partition
from gradtx.core.slots import counter, factor, per_matrix
from gradtx.core.value import dtype, integer
from gradtx.linalg.spectral import adjoint
from gradtx.optimizers.elementwise.sign_sgd import scale_by_sign
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.momentum import ema
from gradtx.transforms.scale import scale
from gradtx.types import Mask, Slots

__all__ = ["SPlusState", "scale_by_splus", "splus"]


class SPlusState(NamedTuple):
    """The state of `scale_by_splus`.

    `count`: the number of steps taken. `mu`: the momentum. `left`, `right`: L and R of each matrix, divided by the
    length of the matrix's longer side. `left_basis`, `right_basis`: the eigenvectors of L and R.
    """

    count: Array = counter()
    mu: Array = per_matrix(dtype="mu_dtype")
    left: Array = factor(side="rows")
    right: Array = factor(side="columns")
    left_basis: Array = factor(side="rows", start=1.0)
    right_basis: Array = factor(side="columns", start=1.0)


def _dot(*factors: Array) -> Array:
    product = factors[0]
    for other in factors[1:]:
        product = jnp.matmul(product, other, precision=lax.Precision.HIGHEST)
    return product


def _basis(gram: Array) -> Array:
    """Returns the eigenvectors of `gram`; those of eigenvalue 0 are not unique and come from a fixed random matrix."""
    gram = lax.stop_gradient(gram)
    n, eps = gram.shape[-1], jnp.finfo(gram.dtype).eps
    largest = jnp.max(jnp.abs(gram), axis=(-2, -1), keepdims=True)
    values, vectors = jnp.linalg.eigh(gram / jnp.where(largest > 0, largest, 1))
    some = (values > values[..., -1:] * (n * eps))[..., None, :]
    known = jnp.where(some, vectors, 0)
    drawn = jax.random.normal(jax.random.key(0), (n, n), gram.real.dtype).astype(gram.dtype)
    drawn = jnp.broadcast_to(drawn, gram.shape)
    rest = drawn - _dot(known, adjoint(known), drawn)
    basis = jnp.linalg.qr(jnp.flip(jnp.where(some, vectors, rest), -1))[0]
    return jnp.where(largest > 0, basis, jnp.broadcast_to(jnp.eye(n, dtype=gram.dtype), gram.shape))


def _signs(x: Array) -> Array:
    """Returns the signs of the entries, and 0 for entries that consist only of rounding errors."""
    size = jnp.abs(x)
    least = jnp.max(size, axis=(-2, -1), keepdims=True) * (jnp.finfo(x.dtype).eps * 4 * max(x.shape[-2:]))
    return jnp.where(lax.stop_gradient(size <= least), 0, leaf.sign(x))


class scale_by_splus(Layerwise, state=SPlusState):
    """Computes the signs of each matrix's momentum in an eigenbasis of its gradients.

    This is `splus` for matrices, without learning rate and weight decay. Derivatives treat the eigenvectors as
    constants. The update is

        u = Q_L sign(Q_L^H m Q_R) Q_R^H * 2 / (inputs + outputs),    m: momentum

    where Q_L and Q_R are the eigenvectors of the moving averages L of g g^H and R of g^H g.

    Args:
      b1: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more steps.
        In [0, 1); default 0.9.
      b2: Decay rate of L and R; a value closer to 1 averages over more steps. In [0, 1); default 0.999.
      interval: Number of steps between two computations of the eigenvectors; a larger number costs less time but uses
        older eigenvectors. At least 1; default 100.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    State: one array per parameter (4 bytes per entry in float32), and for each matrix two arrays of shape inputs x
      inputs and two of shape outputs x outputs.

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Frans et al., 2025, "A Stable Whitening Optimizer for Efficient Neural Network Training", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_splus()
    >>> g = jnp.array([[1.0, 1.0], [1.0, 1.0]])
    >>> state = tx.init(g)
    >>> for _ in range(2):  # the first step takes plain signs, the second uses the eigenbasis
    ...     updates, state = tx.update(g, state)
    ...     print(jnp.linalg.matrix_norm(updates).round(3))
    1.0
    0.5
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    interval: int = integer(default=100, ge=1)
    mu_dtype: Any = dtype(default=None)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Returns a step count; the eigenvectors are computed when it is a multiple of `interval`.

        The count is t - 1, except that it is also 0 at the second step, because L and R are still zero at the first
        step.
        """
        return jnp.where(t == 2, 0, t - 1), numbers

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        if not x.size:
            return x, slots
        old = slots.left_basis, slots.right_basis
        left, right = renewed(self.interval, shared, lambda: (_basis(slots.left), _basis(slots.right)), old)
        mu = leaf.moment(slots.mu, x, self.b1)
        largest = lax.stop_gradient(jnp.max(jnp.abs(mu), axis=(-2, -1), keepdims=True))
        unit = mu / jnp.where(largest > 0, largest, 1)  # has the same signs, and its products cannot overflow
        signs = _signs(_dot(adjoint(left), unit, right))
        u = _dot(left, signs, adjoint(right)) * (2 / (x.shape[-2] + x.shape[-1]))
        # The gradient is bounded and divided by the square root of the longer side, so that no sum overflows; the
        # eigenvectors do not change.
        g = lax.stop_gradient(leaf.bounded(x) / math.sqrt(max(x.shape[-2:])))
        slots = slots._replace(
            left=leaf.moment(slots.left, _dot(g, adjoint(g)), self.b2),
            right=leaf.moment(slots.right, _dot(adjoint(g), g), self.b2),
        )
        return u, slots._replace(mu=mu, left_basis=left, right_basis=right)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


@constructor
def splus(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    interval: int = 100,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    mu_dtype: Any = None,
    *,
    nonstandard_constant: HyperArg = 0.001,
    splus_weight_dimension_numbers: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs SPlus on the hidden matrices, and sign descent with momentum on all other parameters.

    Use it in place of Shampoo or SOAP if you want to compute eigenvectors only about every hundred steps: the updates
    are bounded even if the eigenvectors are old (Frans et al., 2025, "A Stable Whitening Optimizer for Efficient Neural
    Network Training", algorithm 1):

        u  = Q_L sign(Q_L^H m Q_R) Q_R^H * 2 / (inputs + outputs),    m: momentum
        p <- p - learning_rate * (u + weight_decay * p)

    where Q_L and Q_R are the eigenvectors of the moving averages of g g^H and g^H g. The paper evaluates averaged
    weights: to do the same, wrap `splus` in `ema_params` with a decay of 0.999.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). About 0.1 in the paper. Not
        negative.
      b1: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more steps.
        In [0, 1); default 0.9.
      b2: Decay rate of the moving averages of g g^H and g^H g; a value closer to 1 averages over more steps. In [0, 1);
        default 0.999.
      interval: Number of steps between two computations of the eigenvectors; a larger number costs less time but uses
        older eigenvectors. At least 1; default 100.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts
        `learning_rate * weight_decay * params` from the parameters. The authors' code also multiplies the decay by 2 /
        (inputs + outputs) or by `nonstandard_constant`. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      nonstandard_constant: Factor by which the learning rate is multiplied for all parameters that are not hidden
        matrices. Default 1e-3.
      splus_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'matrix' and 'other', whose `update` needs `params`. State: one array per
      parameter (4 bytes per entry in float32), and for each hidden matrix two arrays of shape inputs x inputs and two
      of shape outputs x outputs.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.splus(0.1).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'other', 'kernel': 'matrix'}
    """
    labels = muon_labels(splus_weight_dimension_numbers, mask, names=("matrix", "other"))
    decay = decoupled_weight_decay(learning_rate, weight_decay, masks.in_group(mask), decouple_lr=decouple_lr)
    constant = scale.check_field("step_size", nonstandard_constant, who="splus", name="nonstandard_constant")
    rule = scale_by_splus(b1, b2, interval, mu_dtype, weight_dimension_numbers=labels.numbers)
    signs = ema(ema.check_field("decay", b1, who="splus", name="b1"), False, mu_dtype), scale_by_sign(), scale(constant)
    return partition({"matrix": chain(rule, *decay), "other": chain(*signs, *decay)}, labels)
