"""NorMuon: a variant of Muon whose update has about the same size for all neurons.

    o_t = O(c_t)                                        as in Muon
    v_t = b2 * v_(t-1) + (1 - b2) * mean of |o_t|^2     over the weights of each neuron (a column)
    w_t = o_t / (sqrt(v_t) + nu_eps)
    u_t = w_t * sqrt(min(inputs, outputs)) / |w_t|

Li et al., 2025, "NorMuon: Making Muon more efficient and scalable", algorithm 1. Matrices have the shape
(inputs, outputs). u_t has the norm of an orthogonal matrix, so `scale_by_shape(consistent_rms=0.2)` gives the paper's
update, 0.2 * learning_rate * sqrt(inputs * outputs) * w_t / |w_t|. In the authors' code the update has the norm of o_t
instead, which is about the norm of an orthogonal matrix. The paper does not use Nesterov momentum (`nesterov=False`);
the authors' code does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_matrix, per_param
from gradtx.linalg.newton_schulz import as_long_as_orthogonal
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon import scale_by_muon
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.shape import scale_by_shape
from gradtx.types import Mask, Slots

__all__ = ["NorMuonState", "normuon", "scale_by_normuon"]


class NorMuonState(NamedTuple):
    """The state of `scale_by_normuon`.

    `count`: the number of steps taken. `mu`: the momentum. `nu`: the second moment of every neuron of each matrix.
    `weights`: if the decay rate is a schedule, the sum of the averaging weights.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_matrix(of="columns", real=True, signed=False)
    weights: dict[str, Array] = average_weights(when="bias_correction")


class scale_by_normuon(scale_by_muon, state=NorMuonState):
    """Divides every neuron of Muon's update by its recent root mean square.

    This is `normuon` for matrices, without learning rate and weight decay. A neuron is one output, which is a column of
    the matrix that `weight_dimension_numbers` defines.

        w = O(c) / (sqrt(v) + nu_eps),    v: moving average of the mean of |O(c)|^2 over each neuron

    The update is w, scaled to the norm of an orthogonal matrix.

    Args:
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      eps: Added to the norm by which the momentum is divided; 0 makes the update independent of the gradient's scale.
        Not negative; default 0.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default True.
      adaptive: Whether to multiply the update by its inner product with the momentum, so larger momenta give larger
        updates. Default False.
      preconditioning: Norm by which the momentum is divided before the Newton-Schulz iteration: 'frobenius', 'spectral'
        (the largest singular value), 'aol' (a separate divisor for each row, from the Gram matrix) or 'schatten' (the
        Schatten 4-norm). 'aol' and 'schatten' use `eps` only with `eps_is_floor`. Default 'frobenius'.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      bias_correction: Whether to correct the momentum for its start at zero. Default True.
      eps_is_floor: Whether to use `eps` as a lower bound on the norm instead of adding it to the norm. Default False.
      iteration_dtype: Dtype to which the products of the Newton-Schulz iteration are rounded; at least float32 by
        default, and bfloat16 is faster on hardware that supports it.
      b2: Decay rate of the neurons' second moments; a value closer to 1 averages over more steps. In [0, 1); default
        0.95.
      nu_eps: Added to the square root of the second moment, so that a neuron whose update consists only of rounding
        errors stays small. Not negative; default 1e-8.

    State: one array per parameter (4 bytes per entry in float32), and one number per neuron.

    Reference: Li et al., 2025, "NorMuon: Making Muon more efficient and scalable", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_normuon()
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    b2: Hyper = hyper(default=0.95, ge=0, lt=1, kw_only=True)
    nu_eps: Hyper = hyper(default=1e-8, ge=0, kw_only=True)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        o, slots = super().on_stack(x, slots, shared)
        if not o.size:
            return o, slots
        nu = leaf.moment(slots.nu, jnp.mean(leaf.abs_sq(o), axis=-2), self.b2)
        root = leaf.root(nu) + self.nu_eps
        return as_long_as_orthogonal(o / root[..., None, :]), slots._replace(nu=nu)


@constructor
def normuon(
    learning_rate: HyperArg,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    beta: HyperArg = 0.95,
    b2: HyperArg = 0.95,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    consistent_rms: float | None = 0.2,
    muon_weight_dimension_numbers: Any = None,
    iteration_dtype: Any = None,
    adam_learning_rate: HyperArg | None = None,
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps: HyperArg = 1e-8,
    adam_weight_decay: HyperArg = 0.0,
    adam_mask: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs NorMuon on the hidden matrices and AdamW on all other parameters.

    Use it in place of Muon when the sizes of Muon's updates differ greatly between neurons. With Muon's
    orthogonalization O of the momentum c (Li et al., 2025, "NorMuon: Making Muon more efficient and scalable",
    algorithm 1):

        w  = O(c) / (sqrt(v) + 1e-8),    v: moving average of the mean of |O(c)|^2 over each neuron
        u  = w, scaled to root mean square `consistent_rms`
        p <- p - learning_rate * (u + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      b2: Decay rate of the neurons' second moments; a value closer to 1 averages over more steps. In [0, 1); default
        0.95.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype of the stored momentum and of AdamW's first moment, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      consistent_rms: Root mean square of each matrix's update before the learning rate is applied, the same for
        matrices of every shape; None multiplies the update by `sqrt(max(1, outputs / inputs))` instead, as Muon's
        authors do. Positive; default 0.2 (close to Adam's, so Adam's learning rates can be used).
      muon_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      iteration_dtype: Dtype to which the products of the Newton-Schulz iteration are rounded; at least float32 by
        default, and bfloat16 is faster on hardware that supports it.
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
      for each hidden matrix one array of the same shape (4 bytes per entry in float32) and one number per neuron; two
      arrays for every other parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.normuon(1e-3).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    numbers = muon_labels(muon_weight_dimension_numbers).numbers
    rule = scale_by_normuon(
        ns_coeffs,
        ns_steps,
        beta,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
        b2=b2,
        weight_dimension_numbers=numbers,
        iteration_dtype=iteration_dtype,
    )
    return matrices_with_adamw(
        chain(rule, scale_by_shape(numbers, consistent_rms)),
        learning_rate,
        weight_decay,
        mask,
        weight_dimension_numbers=numbers,
        adam_learning_rate=adam_learning_rate,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
        adam_weight_decay=adam_weight_decay,
        adam_mask=adam_mask,
        mu_dtype=mu_dtype,
        decouple_lr=decouple_lr,
    )
