"""Weights as matrices: which axes of an array are inputs, which outputs, and which count matrices.

The view of an array is a stack of shape (matrices, inputs, outputs). By default

    two axes          (input, output), as in flax and in x W = y
    three and more    the last axis is the output, all others together are the input: a convolution's kernel
                      (height, width, input, output), a projection (model, heads, size)
    one or none       a matrix of one row
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax import Array

__all__ = ["MatrixView", "WeightDimensionNumbers"]


class WeightDimensionNumbers(NamedTuple):
    """The axes of a weight that are summed over in x W, and those of the result; all others count matrices.

    >>> import gradtx as gx
    >>> gx.WeightDimensionNumbers(reduction_axis=(0, 1), output_axis=-1)
    WeightDimensionNumbers(reduction_axis=(0, 1), output_axis=-1)
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class MatrixView(NamedTuple):
    """How an array is seen as a stack of matrices: `stacked` and its inverse, and the matrices' two sizes."""

    fan_in: int
    fan_out: int
    stacked: Callable[[Array], Array]
    restored: Callable[[Array], Array]

    @classmethod
    def of(cls, shape: tuple[int, ...], numbers: WeightDimensionNumbers | None = None) -> MatrixView:
        """The view of arrays of this shape.

        Raises:
          ValueError: the numbers name an axis that is not there, or one twice.
        """
        inputs, outputs = _axes(shape, numbers)
        order = [i for i in range(len(shape)) if i not in inputs + outputs] + inputs + outputs
        fan_in, fan_out = (math.prod(shape[i] for i in axes) for axes in (inputs, outputs))
        count = math.prod(shape[i] for i in order[: len(order) - len(inputs) - len(outputs)])
        permuted = tuple(shape[i] for i in order)
        return cls(
            fan_in,
            fan_out,
            lambda x: x.transpose(order).reshape(count, fan_in, fan_out),
            lambda x: x.reshape(permuted).transpose(np.argsort(order)),
        )


def _axes(shape: tuple[int, ...], numbers: WeightDimensionNumbers | None) -> tuple[list[int], list[int]]:
    """The input's and the output's axes, counted from the front."""
    n = len(shape)
    if numbers is None:
        return list(range(n - 1)), list(range(max(n - 1, 0), n))
    axes = [[x] if isinstance(x, int) else list(x) for x in numbers]
    named = [i for part in axes for i in part]
    if any(not -n <= i < n for i in named) or len({i % n for i in named}) < len(named):
        raise ValueError(
            f"{numbers} does not fit an array of shape {shape}: every axis must be there, and be named once. "
            "Give the axes of this weight, or None to leave it out."
        )
    inputs, outputs = ([i % n for i in part] for part in axes)
    return inputs, outputs
