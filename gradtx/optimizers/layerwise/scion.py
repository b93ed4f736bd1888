"""Scion: steps of a fixed length in a norm that suits the layer.

    m_t = beta * m_(t-1) + (1 - beta) * g_t
    u_t = the direction of norm 1 that has the largest inner product with m_t

    norm        of W (inputs, outputs)                        u_t
    'spectral'  sqrt(inputs / outputs) * largest sigma        sqrt(outputs / inputs) * O(m_t)
    'sign'      inputs * largest |entry|                      sign(m_t) / inputs
    'column'    largest norm of an input's weights / sqrt(outputs)    sqrt(outputs) * m_t / |m_t|, input by input
    'row'       sqrt(inputs) * largest norm of an output's weights    m_t / |m_t| / sqrt(inputs), output by output

Pethick et al., 2025, "Training Deep Learning Models with Norm-Constrained LMOs", tables 2 to 4, which writes matrices
as (outputs, inputs): hence 'column' and 'row'. A vector is a matrix of one input: 'column' divides it by its root
mean square, as the paper does with biases. `scion` multiplies u_t by a radius. With `constrained` it is algorithm 2:
x <- (1 - learning_rate) * x - learning_rate * radius * u_t.
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
    """The steps taken, and the momentum."""

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")


class scale_by_lmo(Layerwise, state=ScionState):
    """The steepest direction of length 1 in a norm of matrices: Scion without radius and learning rate.

    Args:
      norm: 'spectral', 'sign', 'column' or 'row': see the table in the file. The paper takes 'spectral' for hidden
        layers, 'sign' or 'row' for the last, and 'column' for embeddings and vectors.
      beta: Decay rate of the momentum; closer to 1 averages over more steps. In [0, 1). The paper's alpha is 1 - beta.
      ns_coeffs, ns_steps: The Newton-Schulz iteration of 'spectral', as in `scale_by_muon`.
      mu_dtype: The dtype of the stored momentum. By default the parameter's, float32 at least.
      weight_dimension_numbers: Which axes are inputs and which are outputs, as in `scale_by_muon`.

    The update is the same for c * g as for g, and zero for zero. State: one array per parameter.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> g = jnp.array([[3.0, -4.0]])
    >>> for norm in ("sign", "column", "row"):
    ...     tx = gx.scale_by_lmo(norm)
    ...     print(tx.update(g, tx.init(g))[0].astype("float16"))
    [[ 1. -1.]]
    [[ 0.8486 -1.132 ]]
    [[ 1. -1.]]

    Raises:
      ValueError: The dimension numbers do not fit a leaf, or there are not as many triples as steps.
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
    """Vectors along an axis with norm 1; zeros stay zeros."""
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
    """Steps of fixed length, in one norm for the hidden matrices and in another for the rest. `update` needs params.

    Take it to keep one learning rate for models of any width: the norms account for the shapes. `hidden_radius` and
    `outer_radius` scale the steps of the two groups (50 and 3000 in the paper's language models, at 3.6e-4).
    With `constrained` weights also shrink by the learning rate, so that they stay within the radii.
    `scion_weight_dimension_numbers` says which leaves are hidden matrices, as in `muon`. State: an array per parameter.

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
