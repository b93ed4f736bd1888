"""The factor of Muon by a matrix's shape: u = g * sqrt(max(1, outputs / inputs)).

With `consistent_rms` it is sqrt(max(outputs, inputs)) * consistent_rms: an orthogonal matrix has entries of root mean
square 1 / sqrt(max(outputs, inputs)), so that every entry moves by about `consistent_rms` (Liu et al., 2025, "Muon
is Scalable for LLM Training", section 2.2).
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
    """The factor of Muon; `consistent_rms=0.2` is about Adam's step, so that its rates and decays can be kept.

    `weight_dimension_numbers` are those of `scale_by_muon`.

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
