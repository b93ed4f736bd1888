"""Muon's factor for the shape of a matrix: u = g * sqrt(max(1, outputs / inputs)).

With `consistent_rms` the factor is sqrt(max(outputs, inputs)) * consistent_rms. The entries of an orthogonal matrix
have the root mean square 1 / sqrt(max(outputs, inputs)), so with this factor the entries of the update have the root
mean square `consistent_rms` (Liu et al., 2025, "Muon is Scalable for LLM Training", section 2.2).
"""

from __future__ import annotations

import math
from typing import Any

from jax import Array

from gradtx import checks, leaf
from gradtx.core.leafwise import Layerwise
from gradtx.core.matrices import matrix_axes
from gradtx.core.value import static
from gradtx.linalg.matrix_view import MatrixView
from gradtx.types import Slots

__all__ = ["scale_by_shape"]


def _check_rms(who: str, name: str, value: Any) -> Any:
    if value is None or (leaf.is_number(value) and value > 0):
        return value
    raise ValueError(f"{who}: {name} must be None or a positive number, got {checks.shown(value)}.")


class scale_by_shape(Layerwise):
    """Scales each matrix by Muon's factor for its shape.

    Put it after `scale_by_muon`. With `consistent_rms=0.2` the updates are about as large as Adam's, so you can keep
    the learning rate and weight decay that you use with Adam.

        u = g * sqrt(max(1, outputs / inputs))                       by default
        u = g * sqrt(max(outputs, inputs)) * consistent_rms          with consistent_rms

    Args:
      weight_dimension_numbers: Which axes of each leaf are the inputs of its matrices and which are the outputs: one
        `gx.WeightDimensionNumbers` for all leaves, a tree with one for each leaf, or a function that takes the tree of
        leaves and returns such a tree; by default the last axis is the output, all other axes are the input, and a
        vector is a matrix with one row.
      consistent_rms: Root mean square of each matrix's update before the learning rate is applied, the same for
        matrices of every shape; None multiplies the update by `sqrt(max(1, outputs / inputs))` instead, as Muon's
        authors do. Positive, or None by default.

    Returns:
      A transformation. It keeps no state except a step count.

    References:
      Liu et al., 2025, "Muon is Scalable for LLM Training", section 2.2.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_shape()
      >>> g = jnp.ones((1, 4))
      >>> print(tx.update(g, tx.init(g))[0])
      [[2. 2. 2. 2.]]
    """

    weight_dimension_numbers: Any = matrix_axes()
    consistent_rms: float | None = static(default=None, check=_check_rms)

    def update_leaf(
        self, g: Array, slots: Slots, p: Any, shared: Any, *, weight_dimension_numbers: MatrixView
    ) -> tuple[Array, Any]:
        return g * self._factor(weight_dimension_numbers), slots

    def _factor(self, view: MatrixView) -> float:
        if self.consistent_rms is None:
            return math.sqrt(max(1, view.fan_out / max(view.fan_in, 1)))
        return math.sqrt(max(view.fan_in, view.fan_out)) * self.consistent_rms
