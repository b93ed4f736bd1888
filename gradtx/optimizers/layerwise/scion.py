"""Scion: updates of fixed norm, measured in a norm that is chosen for each kind of layer.

    m_t = beta * m_(t-1) + (1 - beta) * g_t
    u_t = the direction of norm 1 that has the largest inner product with m_t

    norm        of W, with shape (inputs, outputs)                    u_t
    'spectral'  sqrt(inputs / outputs) * largest singular value       sqrt(outputs / inputs) * O(m_t), O as in Muon
    'sign'      inputs * largest |entry|                              sign(m_t) / inputs
    'column'    largest norm of an input's weights / sqrt(outputs)    sqrt(outputs) * m_t / |m_t| for each input
    'row'       sqrt(inputs) * largest norm of an output's weights    m_t / |m_t| / sqrt(inputs) for each output

Pethick et al., 2025, "Training Deep Learning Models with Norm-Constrained LMOs", tables 2 to 4. The paper writes
matrices as (outputs, inputs), hence the names 'column' and 'row'. A vector is a matrix with one input: 'column' divides
a vector by its root mean square, as the paper does for biases. `scion` multiplies u_t by a radius. With `constrained`,
`scion` is algorithm 2: x <- (1 - learning_rate) * x - learning_rate * radius * u_t.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import called, constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.partition import partition
from gradtx.core.slots import counter, per_param
from gradtx.core.value import choice, dtype, integer, static
from gradtx.linalg.newton_schulz import coefficients, orthogonalize, triples
from gradtx.optimizers.layerwise.muon_labels import muon_labels
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.scale import scale
from gradtx.types import Slots

__all__ = ["ScionState", "scale_by_lmo", "scion"]

_NORMS = ("spectral", "sign", "column", "row")


class ScionState(NamedTuple):
    """The state of `scale_by_lmo`. `count`: the number of steps taken. `mu`: the momentum."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")


class scale_by_lmo(Layerwise, state=ScionState):
    """Computes the direction of norm 1 that has the largest inner product with the momentum, for a given matrix norm.

    This is `scion` without radius and learning rate. The update does not change if all gradients are multiplied by a
    positive number, and it is zero if the momentum is zero.

    Args:
      norm: The matrix norm: 'spectral' orthogonalizes the momentum, 'sign' uses its signs, 'column' normalizes the
        weights of each input, and 'row' normalizes the weights of each output. The paper uses 'spectral' for hidden
        layers, 'sign' or 'row' for the last layer, and 'column' for embeddings and vectors. Default 'spectral'.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. The paper's alpha is 1 - beta. In [0, 1); default 0.9 (about the last 10 steps).
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    State: one array per parameter (4 bytes per entry in float32).

    Raises:
      ValueError: The dimension numbers do not match a leaf, or the number of coefficient triples differs from
        `ns_steps`.

    Reference: Pethick et al., 2025, "Training Deep Learning Models with Norm-Constrained LMOs", tables 2 to 4.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> g = jnp.array([[3.0, -4.0]])
    >>> for norm in ("sign", "column", "row"):
    ...     tx = gx.scale_by_lmo(norm)
    ...     print(tx.update(g, tx.init(g))[0].astype("float16"))
    [[ 1. -1.]]
    [[ 0.8486 -1.132 ]]
    [[ 1. -1.]]
    """

    norm: str = choice(default="spectral", options=_NORMS)
    beta: Hyper = hyper(default=0.9, ge=0, lt=1)
    ns_coeffs: Any = static(default="standard", check=coefficients, kw_only=True)
    ns_steps: int = integer(default=5, ge=1, kw_only=True)
    mu_dtype: Any = dtype(default=None, kw_only=True)
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        triples(called(self), self.ns_coeffs, self.ns_steps)

    def to_stack(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.beta)
        return mu, slots._replace(mu=mu)

    def on_stack(self, x: Array, slots: Slots, shared: Any) -> tuple[Array, Any]:
        inputs, outputs = (max(n, 1) for n in x.shape[-2:])
        if self.norm == "spectral":
            steps = triples(called(self), self.ns_coeffs, self.ns_steps)
            return orthogonalize(x, steps) * math.sqrt(outputs / inputs), slots
        if self.norm == "sign":
            return leaf.sign(x) / inputs, slots
        if self.norm == "column":
            return _unit(x, -1) * math.sqrt(outputs), slots
        return _unit(x, -2) / math.sqrt(inputs), slots

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, before: Array) -> tuple[Array, Any]:
        return g, slots


def _unit(x: Array, axis: int) -> Array:
    """Scales the vectors along `axis` to norm 1; zeros stay zeros."""
    unit, size = tree.scaled(x, (axis % x.ndim,))
    return x / unit / jnp.where(size == 0, 1, size)


@constructor
def scion(
    learning_rate: HyperArg,
    beta: HyperArg = 0.9,
    hidden_norm: str = "spectral",
    outer_norm: str = "sign",
    hidden_radius: HyperArg = 1.0,
    outer_radius: HyperArg = 1.0,
    *,
    constrained: bool = False,
    ns_coeffs: Any = "standard",
    ns_steps: int = 5,
    mu_dtype: Any = None,
    scion_weight_dimension_numbers: Any = None,
) -> partition:
    """Runs Scion: updates of fixed norm, with one norm for the hidden matrices and one for all other parameters.

    Use it to keep the same learning rate for models of every width, because the norms account for the shapes of the
    matrices. With u, the direction of norm 1 that has the largest inner product with the momentum (Pethick et al.,
    2025, "Training Deep Learning Models with Norm-Constrained LMOs", algorithms 1 and 2):

        p <- p - learning_rate * radius * u                              or, if constrained,
        p <- (1 - learning_rate) * p - learning_rate * radius * u

    Args:
      learning_rate: Step size relative to the radius: a number, or a schedule (a function of the step count). 3.6e-4 in
        the paper's language models. Not negative.
      beta: Decay rate of the momentum (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      hidden_norm: Norm for the updates of hidden matrices; see `scale_by_lmo` for the norms. One of 'spectral', 'sign',
        'column', 'row'; default 'spectral'.
      outer_norm: Norm for the updates of all other parameters. One of 'spectral', 'sign', 'column', 'row'; default
        'sign'.
      hidden_radius: Norm of the updates of hidden matrices before the learning rate is applied. 50 in the paper's
        language models. Default 1.
      outer_radius: Norm of the updates of all other parameters before the learning rate is applied. 3000 in the paper's
        language models. Default 1.
      constrained: Whether each step also multiplies the parameters by 1 - learning_rate, which keeps their norms at
        most equal to the radii. Default False.
      ns_coeffs: Coefficients of the Newton-Schulz iteration: three numbers for all iterations, three numbers for each
        iteration, or the name of a published set ('standard', 'dion', 'polar_express' or 'cans'); for the same number
        of iterations 'polar_express' and 'cans' come closest to an orthogonal matrix, and the default is 'standard'
        (Jordan's (3.4445, -4.775, 2.0315)).
      ns_steps: Number of Newton-Schulz iterations; each one costs three matrix products and brings the singular values
        closer to 1. At least 1; default 5.
      mu_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the parameter's
        dtype, but at least float32.
      scion_weight_dimension_numbers: Which parameters are hidden matrices, and which of their axes are inputs and
        outputs: a tree with `gx.WeightDimensionNumbers` for each hidden matrix and None for every other parameter, or a
        function that takes the parameters and returns such a tree (by default `gx.hidden_matrices`, which leaves out
        vectors, embeddings and output heads).

    Returns:
      A transformation, a partition into 'hidden' and 'outer', whose `update` needs `params`. State: one array per
      parameter (4 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.scion(1e-3).param_labels({"kernel": jnp.ones((4, 4)), "embed": jnp.ones((9, 4))})
    {'embed': 'outer', 'kernel': 'hidden'}
    """
    labels = muon_labels(scion_weight_dimension_numbers, names=("hidden", "outer"))
    decay = float(checks.flag("scion", "constrained", constrained))

    def group(norm: str, name: str, radius: HyperArg, numbers: Any) -> chain:
        norm = scale_by_lmo.check_field("norm", norm, who="scion", name=f"{name}_norm")
        radius = scale.check_field("step_size", radius, who="scion", name=f"{name}_radius")
        iteration = {"ns_coeffs": ns_coeffs, "ns_steps": ns_steps, "mu_dtype": mu_dtype}
        rule = scale_by_lmo(norm, beta, **iteration, weight_dimension_numbers=numbers)
        return chain(rule, scale(radius), *decoupled_weight_decay(learning_rate, decay))

    hidden = group(hidden_norm, "hidden", hidden_radius, labels.numbers)
    return partition({"hidden": hidden, "outer": group(outer_norm, "outer", outer_radius, None)}, labels)
