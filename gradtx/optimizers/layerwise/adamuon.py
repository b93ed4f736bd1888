"""AdaMuon: Muon with a second moment for every entry of the orthogonal update.

    o_t = O(sign(c_t))                                O as in Muon, applied to the signs of the momentum
    v_t = b2 * v_(t-1) + (1 - b2) * |o_t|^2
    w_t = o_t / (sqrt(v_t) + nu_eps)
    u_t = w_t * sqrt(min(inputs, outputs)) / |w_t|

Si et al., 2025, "AdaMuon: Adaptive Muon Optimizer", algorithm 1; in the paper both moments have the same decay rate.
`scale_by_shape(consistent_rms=0.2)` multiplies u_t by the factor that gives the paper's update, 0.2 * learning_rate *
sqrt(inputs * outputs) * w_t / |w_t|. The first version of the paper uses the momentum instead of its signs
(`sign_momentum=False`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_matrix, per_param
from gradtx.core.value import flag
from gradtx.linalg.newton_schulz import as_long_as_orthogonal
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon import scale_by_muon
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.shape import scale_by_shape
from gradtx.types import Mask, Slots

__all__ = ["AdaMuonState", "adamuon", "scale_by_adamuon"]


class AdaMuonState(NamedTuple):
    """The state of `scale_by_adamuon`.

    `count`: the number of steps taken. `mu`: the momentum. `nu`: the second moment of the orthogonal update of each
    matrix. `weights`: for each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the
    product of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_matrix(real=True, signed=False)
    weights: dict[str, Array] = average_weights(when="bias_correction")


class scale_by_adamuon(scale_by_muon, state=AdaMuonState):
    """Divides every entry of Muon's update by its recent root mean square.

    This is `adamuon` for matrices, without learning rate and weight decay:

        w = O(sign(c)) / (sqrt(v) + nu_eps),    c: momentum,   v: moving average of |O(sign(c))|^2

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
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
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
      b2: Decay rate of the second moment of the orthogonal update; a value closer to 1 averages over more steps. In
        [0, 1); default 0.95.
      nu_eps: Added to the square root of the second moment, so that an entry that consists only of rounding errors
        stays small. Not negative; default 1e-8.
      sign_momentum: Whether to orthogonalize the signs of the momentum instead of the momentum itself. Default True.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Si et al., 2025, "AdaMuon: Adaptive Muon Optimizer", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adamuon()
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    b2: Hyper = hyper(default=0.95, ge=0, lt=1, kw_only=True)
    nu_eps: Hyper = hyper(default=1e-8, ge=0, kw_only=True)
    sign_momentum: bool = flag(default=True, kw_only=True)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        o, slots = super().on_stack(leaf.sign(x) if self.sign_momentum else x, slots, shared)
        nu = leaf.moment(slots.nu, leaf.abs_sq(o), self.b2)
        return as_long_as_orthogonal(o / (leaf.root(nu) + self.nu_eps)), slots._replace(nu=nu)


@constructor
def adamuon(
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
    sign_momentum: bool = True,
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
    """Runs AdaMuon on the hidden matrices and AdamW on all other parameters.

    Use it in place of Muon when each entry of the update should also be divided by its own second moment, as in Adam.
    With Muon's orthogonalization O of the momentum c (Si et al., 2025, "AdaMuon: Adaptive Muon Optimizer", algorithm
    1):

        w  = O(sign(c)) / (sqrt(v) + 1e-8),    v: moving average of |O(sign(c))|^2
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
      b2: Decay rate of the second moment of the orthogonal update; a value closer to 1 averages over more steps. In
        [0, 1); default 0.95.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype of the stored momentum and of AdamW's first moment, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      sign_momentum: Whether to orthogonalize the signs of the momentum instead of the momentum itself. Default True.
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
      A transformation, a partition into 'muon' and 'adam', whose `update` needs `params`. State: two arrays per
      parameter (8 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.adamuon(1e-3).param_labels({"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)})
    {'bias': 'adam', 'kernel': 'muon'}
    """
    labels = muon_labels(muon_weight_dimension_numbers)
    rule = scale_by_adamuon(
        ns_coeffs,
        ns_steps,
        beta,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
        b2=b2,
        sign_momentum=sign_momentum,
        weight_dimension_numbers=labels.numbers,
        iteration_dtype=iteration_dtype,
    )
    return matrices_with_adamw(
        chain(rule, scale_by_shape(labels.numbers, consistent_rms)),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        mask=mask,
        adam_mask=adam_mask,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
        adam_learning_rate=adam_learning_rate,
        adam_weight_decay=adam_weight_decay,
        mu_dtype=mu_dtype,
        decouple_lr=decouple_lr,
        weight_dimension_numbers=labels.numbers,
    )
