"""Muon: brings all singular values of each matrix's momentum close to 1.

    m_t = beta * m_(t-1) + (1 - beta) * g_t
    c_t = beta * m_t / (1 - beta^(t+1)) + (1 - beta) * g_t / (1 - beta^t)   (Nesterov)   or   m_t / (1 - beta^t)
    u_t = O(c_t)                    O: Newton-Schulz iteration (`gradtx.linalg.newton_schulz`)
    u_t = <c_t, O(c_t)> * O(c_t)    with `adaptive`

The update is then multiplied by sqrt(max(1, outputs / inputs)), or, with `consistent_rms`, by
sqrt(max(outputs, inputs)) * consistent_rms. Matrices of the same shape are processed together, as one stack.

Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al., 2025, "Muon is Scalable for
LLM Training". By default the momentum is corrected for its start at zero, as in optax. PyTorch does not correct the
momentum; to match PyTorch, pass `bias_correction=False` and `eps_is_floor=True` to `scale_by_muon`. With
`eps_is_floor=True` the momentum is divided by max(norm, eps).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import called, constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import choice, dtype, flag, integer, static
from gradtx.linalg.newton_schulz import PRECONDITIONINGS, coefficients, orthogonalize, triples
from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.shape import scale_by_shape
from gradtx.types import Mask, Slots

__all__ = ["MuonState", "muon", "scale_by_muon"]


_SCALE = 4
"""`scale_by_muon` orthogonalizes c / 4, because c may overflow. O(c / 4) equals O(c); `adaptive` multiplies by 4."""


class MuonState(NamedTuple):
    """The state of `scale_by_muon`.

    `count`: the number of steps taken. `mu`: the momentum. `weights`: if the decay rate is a schedule, the sum of the
    averaging weights.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    weights: dict[str, Array] = average_weights(when="bias_correction")


class scale_by_muon(Layerwise, state=MuonState, corrected=("beta",)):
    """Orthogonalizes the momentum of every matrix.

    This is `muon` without the factor for the matrix's shape, learning rate and weight decay:

        u = O(c),    c: momentum

    where O brings all singular values of c close to 1 by the Newton-Schulz iteration.

    Args:
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      eps: Added to the norm by which the momentum is divided. The default is 0, so the update does not change if all
        gradients are multiplied by a positive number, and it is zero if the momentum is zero; optax adds 1e-8. At most
        a millionth of the norm is added.
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
      eps_is_floor: Whether to use `eps` as a lower bound on the norm (for 'aol' and 'schatten', on its square) instead
        of adding it to the norm. Then gradients whose norm is below the bound give smaller updates. Default False.
      iteration_dtype: Dtype to which the products of the Newton-Schulz iteration are rounded; at least float32 by
        default, and bfloat16 is faster on hardware that supports it.

    State: one array per parameter (4 bytes per entry in float32).

    Raises:
      ValueError: The dimension numbers do not match a leaf.

    Reference: Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_muon(ns_coeffs=(1.5, -0.5, 0.0), ns_steps=20)
    >>> g = jnp.array([[3.0, 0.0], [0.0, 0.1]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[1. 0.]
     [0. 1.]]
    """

    ns_coeffs: Any = static(default=((3.4445, -4.775, 2.0315),), check=coefficients)
    ns_steps: int = integer(default=5, ge=1)
    beta: Hyper = hyper(default=0.95, ge=0, lt=1)
    eps: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    nesterov: bool = flag(default=True, kw_only=True)
    adaptive: bool = flag(default=False, kw_only=True)
    preconditioning: str = choice(default="frobenius", options=PRECONDITIONINGS, kw_only=True)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)
    bias_correction: bool = flag(default=True, kw_only=True)
    eps_is_floor: bool = flag(default=False, kw_only=True)
    iteration_dtype: Any = dtype(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        triples(called(self), self.ns_coeffs, self.ns_steps)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        # The format of `leaf.debiased_ratio`: (factor of the momentum, factor of the gradient) with `nesterov`, else
        # (divisor,).
        if self.bias_correction:
            return self.debias("beta", t, numbers, self.nesterov), self.weighed(numbers)
        return ((self.beta, 1 - self.beta) if self.nesterov else (1,)), numbers

    def to_stack(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """Returns c / `_SCALE`."""
        mu = leaf.moment(slots.mu, g, self.beta)
        return leaf.debiased_ratio(mu, g, jnp.full((), _SCALE, g.real.dtype), shared), slots._replace(mu=mu)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        steps = triples(called(self), self.ns_coeffs, self.ns_steps)
        settings = {"preconditioning": self.preconditioning, "dtype": self.iteration_dtype}
        return orthogonalize(x, steps, eps=self.eps / _SCALE, eps_is_floor=self.eps_is_floor, **settings), slots

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        # `g` is O(c) here, not the gradient; `before` is c / _SCALE.
        return (g * jnp.sum(before.conj() * g) * _SCALE if self.adaptive else g), slots


@constructor
def muon(
    learning_rate: HyperArg,
    ns_coeffs: Any = (3.4445, -4.775, 2.0315),
    ns_steps: int = 5,
    beta: HyperArg = 0.95,
    eps: HyperArg | None = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: HyperArg = 0.9,
    adam_b2: HyperArg = 0.999,
    adam_eps: HyperArg | None = None,
    adam_eps_root: HyperArg = 0.0,
    adam_weight_decay: HyperArg = 0.0,
    adam_mask: Any = None,
    adam_learning_rate: HyperArg | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: float | None = None,
    iteration_dtype: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs Muon on the hidden matrices and AdamW on all other parameters.

    Use it for transformers and other networks whose parameters are mostly matrices: it usually needs fewer steps than
    AdamW, but each step costs a few more matrix products. With the orthogonalization O of the momentum c (Jordan et
    al., 2024, "Muon: An optimizer for hidden layers in neural networks"):

        p <- p - learning_rate * (O(c) * sqrt(max(1, outputs / inputs)) + weight_decay * p)

    AdamW uses the same `mu_dtype` and `nesterov`; its other hyperparameters are the arguments that begin with `adam_`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 0.02 is a usual first try; with
        `consistent_rms=0.2` use AdamW's learning rate. Not negative.
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      eps: Added to the norm by which the momentum is divided. By default 0 for Muon and 1e-8 for AdamW (see
        `adam_eps`). Not negative.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      mu_dtype: Dtype of the stored momentum and of AdamW's first moment, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.
      nesterov: Whether Muon and AdamW use Nesterov momentum, which looks one step ahead. Default True.
      adaptive: Whether to multiply the update by its inner product with the momentum, so larger momenta give larger
        updates. Default False.
      preconditioning: Norm by which the momentum is divided before the Newton-Schulz iteration: 'frobenius', 'spectral'
        (the largest singular value), 'aol' (a separate divisor for each row, from the Gram matrix) or 'schatten' (the
        Schatten 4-norm). 'aol' and 'schatten' do not use `eps`. Default 'frobenius'.
      adam_b1: Decay rate of AdamW's first moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.9.
      adam_b2: Decay rate of AdamW's second moment, for the parameters that are not hidden matrices. In [0, 1); default
        0.999.
      adam_eps: Added to AdamW's denominator for numerical stability; `eps` by default, or 1e-8 if `eps` is not given.
        Not negative.
      adam_eps_root: Added to AdamW's second moment under the square root. Not negative; default 0.
      adam_weight_decay: Strength of AdamW's decoupled weight decay, for the parameters that are not hidden matrices.
        Not negative; default 0.
      adam_mask: Which of the parameters that AdamW trains to decay; accepts the same kinds of values as `mask`, which
        is also the default.
      adam_learning_rate: Learning rate of AdamW for the parameters that are not hidden matrices; `learning_rate` by
        default. Not negative.
      muon_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).
      consistent_rms: Root mean square of each matrix's update before the learning rate is applied, the same for
        matrices of every shape; None multiplies the update by `sqrt(max(1, outputs / inputs))` instead, as Muon's
        authors do. Positive.
      iteration_dtype: Dtype to which the products of the Newton-Schulz iteration are rounded; at least float32 by
        default, and bfloat16 is faster on hardware that supports it.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'muon' and 'adam', whose `update` needs `params`. State: for each hidden matrix
      one array of the same shape (4 bytes per entry in float32), for every other parameter two arrays.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"embed": jnp.ones((9, 4)), "dense": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
    >>> gx.muon(0.02).param_labels(params)
    {'dense': {'bias': 'adam', 'kernel': 'muon'}, 'embed': 'adam'}
    """
    numbers = muon_labels(muon_weight_dimension_numbers).numbers
    flags = {"nesterov": nesterov, "adaptive": adaptive, "preconditioning": preconditioning}
    view = {"weight_dimension_numbers": numbers, "iteration_dtype": iteration_dtype}
    rule = scale_by_muon(ns_coeffs, ns_steps, beta, 0.0 if eps is None else eps, mu_dtype, **flags, **view)
    return matrices_with_adamw(
        chain(rule, scale_by_shape(numbers, consistent_rms)),
        learning_rate,
        weight_decay,
        mask,
        weight_dimension_numbers=numbers,
        adam_learning_rate=adam_learning_rate,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=(1e-8 if eps is None else eps) if adam_eps is None else adam_eps,
        adam_eps_root=adam_eps_root,
        adam_weight_decay=adam_weight_decay,
        adam_mask=adam_mask,
        mu_dtype=mu_dtype,
        nesterov=nesterov,
        decouple_lr=decouple_lr,
    )
