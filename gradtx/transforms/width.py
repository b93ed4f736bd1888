"""Maximal update parametrization (muP): lets a wide model train with the learning rate of a narrow one.

    i: number of inputs of a leaf, divided by its number of inputs in the base model
    o: number of outputs of a leaf, divided by its number of outputs in the base model

    rule     factor of the update
    'adam'   1 / i                  also for other methods whose entries change by about the learning rate
    'sgd'    o / i
    'muon'   sqrt(o / i)            for orthogonal updates that are not scaled by shape, such as `scale_by_muon` returns

Yang et al., 2022, "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer", table 3. A
hidden matrix has i = o, the first layer i = 1, the last layer o = 1, and a bias has one input. For Muon: Bernstein and
Newhouse, 2024, "Modular Duality in Deep Learning". The parametrization also requires a certain initialization: variance
1 / inputs for hidden weights, and variance 1 / inputs^2, or zeros, for the last layer.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax import Array

from gradtx import checks
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.value import choice, per_leaf
from gradtx.linalg.matrix_view import MatrixView
from gradtx.types import Params, Slots

__all__ = ["scale_by_width"]

_FACTORS = {
    "adam": lambda i, o: 1 / i,
    "sgd": lambda i, o: o / i,
    "muon": lambda i, o: math.sqrt(o / i),
}


def _is_shape(x: Any) -> bool:
    return type(x) is tuple and all(isinstance(n, int) for n in x)


def _check_shapes(who: str, name: str, value: Any) -> Any:
    """Returns a table from paths to shapes, given a tree of arrays, of `jax.ShapeDtypeStruct` or of shapes."""
    if isinstance(value, FrozenTree):
        return value
    leaves = jax.tree.leaves(value, is_leaf=_is_shape)
    for x in leaves:
        if not (_is_shape(x) or hasattr(x, "shape")):
            raise TypeError(
                f"{who}: {name} must be a tree of arrays, of jax.ShapeDtypeStruct or of shapes, such as "
                f"jax.eval_shape(init, key) returns for the base model; it contains {checks.shown(x)}."
            )
    shapes = [x if _is_shape(x) else tuple(x.shape) for x in leaves]
    return FrozenTree(dict(zip(checks.paths(value, _is_shape), shapes, strict=True)))


def _base_shapes(who: str, table: Any, params: Params) -> list[tuple[int, ...]]:
    found = []
    for path, p in zip(checks.paths(params), jax.tree.leaves(params), strict=True):
        base = table.tree.get(path)
        if base is None or len(base) != np.ndim(p):
            has = "has no such leaf" if base is None else f"has the shape {base} there"
            raise ValueError(
                f"{who}: params has the shape {np.shape(p)} at {path}, and base_shapes {has}. Give the shapes of the "
                "same model with smaller widths."
            )
        found.append(base)
    return found


class scale_by_width(Layerwise):
    """Scales each leaf's update by a factor that depends on its width relative to a base model (muP).

    It makes learning rates transfer: tune the learning rate on a narrow model, then train a wide model at the same
    learning rate with this transformation in the chain. It scales the updates of the transformations before it. If
    weight decay should be the same at every width, put the weight decay after it, as in `chain(scale_by_adam(),
    scale_by_width(base_shapes), *decoupled_weight_decay(learning_rate=1e-3, weight_decay=0.1))`. If the weight decay
    comes before, as in `chain(adamw(1e-3), scale_by_width(base_shapes))`, it is scaled like the learning rate. For the
    base model itself all factors are 1.

    Args:
      base_shapes: Parameters of the base model, or their shapes: a tree such as the result of
        `jax.eval_shape(init, key)`, or a dict from paths to shapes. The base model may differ from the trained model
        only in its widths.
      rule: Which factors to use: 'adam' (default) for methods whose updates have entries of about the size of the
        learning rate, 'sgd' for SGD, or 'muon' for orthogonal updates.
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.

    Returns:
      A transformation. It keeps no state except a step count.

    References:
      Yang et al., 2022, "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer", table
        3.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> base = {"first": (3, 8), "hidden": (8, 8), "last": (8, 2), "bias": (8,)}
      >>> wide = {"first": (3, 32), "hidden": (32, 32), "last": (32, 2), "bias": (32,)}
      >>> params = {name: jnp.ones(shape) for name, shape in wide.items()}
      >>> for rule in ("adam", "sgd", "muon"):
      ...     tx = gx.scale_by_width(base, rule)
      ...     updates, _ = tx.update(params, tx.init(params))
      ...     print(rule, {name: float(u.ravel()[0]) for name, u in updates.items()})
      adam {'bias': 1.0, 'first': 1.0, 'hidden': 0.25, 'last': 0.25}
      sgd {'bias': 4.0, 'first': 4.0, 'hidden': 1.0, 'last': 0.25}
      muon {'bias': 2.0, 'first': 2.0, 'hidden': 1.0, 'last': 0.5}

    Raises:
      TypeError: `base_shapes` contains something that has no shape.
      ValueError: A leaf is missing in `base_shapes`, or its number of axes differs.
    """

    base_shapes: Any = per_leaf(_base_shapes, check=_check_shapes)
    rule: str = choice(default="adam", options=tuple(_FACTORS))
    weight_dimension_numbers: Any = matrix_axes(kw_only=True)

    def update_leaf(
        self,
        g: Array,
        slots: Slots,
        p: Any,
        shared: Any,
        *,
        base_shapes: tuple[int, ...],
        weight_dimension_numbers: MatrixView,
    ) -> tuple[Array, Any]:
        view = weight_dimension_numbers
        inputs, outputs = (
            math.prod(view.shape[axis] for axis in axes) / max(math.prod(base_shapes[axis] for axis in axes), 1)
            for axes in (view.rows, view.columns)
        )
        return (g * _FACTORS[self.rule](inputs, outputs) if g.size else g), slots
