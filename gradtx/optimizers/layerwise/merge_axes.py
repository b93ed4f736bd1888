"""Chooses which axes of a leaf become the rows and columns of its matrices, by merging small axes.

Anil et al., 2020, "Scalable Second Order Optimization for Deep Learning", section 4: neighboring axes are merged while
the product of their lengths is small, which gives fewer and larger factors.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gradtx.core.value import Value, integer
from gradtx.linalg.matrix_view import WeightDimensionNumbers
from gradtx.types import Params

__all__ = ["merge_axes"]


class merge_axes(Value):
    """Computes dimension numbers by merging small axes, for `weight_dimension_numbers` of `shampoo`, `soap` and others.

    Use it for convolutions and other leaves with many axes. Going from the first axis to the last, each axis is merged
    with the previous group of axes if the product of the lengths is at most `most`; otherwise it starts a new group.
    The last group becomes the columns, the group before it the rows, and all other axes index separate matrices. If
    there is only one group, the last axis becomes the columns and the other axes the rows.

    Args:
      most: Largest product of the lengths in a group of merged axes. At least 1; default 1024.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"conv": jnp.ones((3, 3, 64, 128)), "heads": jnp.ones((768, 12, 64)), "bias": jnp.ones(8)}
    >>> for name, numbers in gx.merge_axes(1024)(params).items():
    ...     print(name, *numbers)
    bias () (0,)
    conv (0, 1, 2) (3,)
    heads (0,) (1, 2)
    """

    most: int = integer(default=1024, ge=1)

    def __call__(self, params: Params) -> Any:
        return jax.tree.map(lambda p: self._numbers(np.shape(p)), params)

    def _numbers(self, shape: tuple[int, ...]) -> WeightDimensionNumbers:
        groups: list[list[int]] = []
        product = 1
        for axis, n in enumerate(shape):
            if groups and product * n <= self.most:
                groups[-1].append(axis)
                product *= n
            else:
                groups.append([axis])
                product = n
        if len(groups) < 2:
            groups = [list(range(len(shape) - 1)), list(range(len(shape)))[-1:]]
        return WeightDimensionNumbers(tuple(groups[-2]), tuple(groups[-1]))
