"""Views weights as matrices: which axes of an array are inputs, which are outputs, and which count matrices.

The view of an array is a stack of shape (matrices, inputs, outputs). By default

    two axes          (input, output), as in flax and in x W = y
    three and more    the last axis is the output, all others together are the input: a convolution's kernel
                      (height, width, input, output), a projection (model, heads, size)
    one or none       a matrix of one row
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["BlockView", "MatrixView", "WeightDimensionNumbers", "factored_sides"]


class WeightDimensionNumbers(NamedTuple):
    """Says which axes of a weight are inputs and which are outputs; all other axes count matrices.

    Use it for optimizers that act on matrices, such as Muon and Shampoo, if the default does not fit your weights.

    Fields:
      reduction_axis: The input axes, over which x W sums: an integer or a sequence. 0 by default.
      output_axis: The output axes: an integer or a sequence. 1 by default.

    >>> import gradtx as gx
    >>> gx.WeightDimensionNumbers(reduction_axis=(0, 1), output_axis=-1)
    WeightDimensionNumbers(reduction_axis=(0, 1), output_axis=-1)
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class MatrixView(NamedTuple):
    """How arrays of a shape are seen as a stack of matrices; hashable, so it may be static in a jitted function."""

    shape: tuple[int, ...]
    count: int
    """Number of matrices."""
    fan_in: int
    """Number of rows of each matrix."""
    fan_out: int
    """Number of columns of each matrix."""
    order: tuple[int, ...]
    """The axes of the array in the order: axes that count matrices, axes of the rows, axes of the columns."""
    rows: tuple[int, ...]
    """The axes of the rows."""
    columns: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], numbers: WeightDimensionNumbers | None = None) -> MatrixView:
        """Returns the view of arrays of this shape.

        Raises:
          ValueError: the numbers name an axis that does not exist, or name an axis twice.
        """
        rows, columns = _axes(shape, numbers)
        others = [i for i in range(len(shape)) if i not in rows + columns]
        count, fan_in, fan_out = (math.prod(shape[i] for i in axes) for axes in (others, rows, columns))
        return cls(shape, count, fan_in, fan_out, (*others, *rows, *columns), tuple(rows), tuple(columns))

    def stacked(self, x: Array) -> Array:
        """Returns the matrices, an array of shape (count, fan_in, fan_out)."""
        return x.transpose(self.order).reshape(self.count, self.fan_in, self.fan_out)

    def restored(self, matrices: Array) -> Array:
        """Returns the array that consists of these matrices."""
        permuted = tuple(self.shape[i] for i in self.order)
        return matrices.reshape(permuted).transpose(np.argsort(self.order))

    @property
    def sides(self) -> tuple[int, int]:
        """Returns the numbers of rows and columns of a whole matrix."""
        return self.fan_in, self.fan_out

    def blocked(self, rows: int | None, columns: int | None) -> MatrixView | BlockView:
        """Returns the view in blocks of at most so many rows and columns (None for all); itself if that is one
        block.
        """
        sizes = zip(self.sides, (rows, columns), strict=True)
        grid = tuple(1 if most is None else max(-(-n // most), 1) for n, most in sizes)
        return self if grid == (1, 1) else BlockView(self, grid)

    def axis(self, side: str) -> int | None:
        """Returns the array's only axis of 'rows' or 'columns'; None if there are several or none."""
        axes = self.rows if side == "rows" else self.columns
        return axes[0] if len(axes) == 1 else None


class BlockView(NamedTuple):
    """How arrays of a shape are seen as a stack of blocks of matrices, all of one size and padded with zeros."""

    view: MatrixView
    grid: tuple[int, ...]
    """Number of blocks along the rows, and along the columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def sides(self) -> tuple[int, int]:
        return self.view.sides

    @property
    def count(self) -> int:
        return self.view.count * math.prod(self.grid)

    @property
    def fan_in(self) -> int:
        return -(-self.view.fan_in // self.grid[0])

    @property
    def fan_out(self) -> int:
        return -(-self.view.fan_out // self.grid[1])

    def stacked(self, x: Array) -> Array:
        """Returns the blocks, an array of shape (count, fan_in, fan_out); the blocks of a row of blocks follow each
        other.
        """
        (m, n), (r, c), view = self.grid, (self.fan_in, self.fan_out), self.view
        x = jnp.pad(view.stacked(x), ((0, 0), (0, m * r - view.fan_in), (0, n * c - view.fan_out)))
        return x.reshape(view.count, m, r, n, c).swapaxes(2, 3).reshape(self.count, r, c)

    def restored(self, matrices: Array) -> Array:
        """Returns the array that consists of these blocks."""
        (m, n), (r, c), view = self.grid, (self.fan_in, self.fan_out), self.view
        x = matrices.reshape(view.count, m, n, r, c).swapaxes(2, 3).reshape(view.count, m * r, n * c)
        return view.restored(x[:, : view.fan_in, : view.fan_out])

    def axis(self, side: str) -> int | None:
        """Returns the array's only axis of a block's 'rows' or 'columns'; None if there is none."""
        return self.view.axis(side) if self.grid[side == "columns"] == 1 else None


def factored_sides(view: Any, most: int, *, one_sided: bool, vectors: bool) -> tuple[bool, bool]:
    """Returns whether the rows, and the columns, of matrices have a factor.

    There is none for a side of length 1, for a side longer than `most`, and, if `one_sided`, for the longer side. A
    matrix with one row or column has a factor only if `vectors`.
    """
    rows, columns = view.sides
    shorter = (rows <= columns, rows > columns) if one_sided else (True, True)
    some = vectors or min(rows, columns) > 1
    return tuple(some and wanted and 1 < n <= most for n, wanted in zip((rows, columns), shorter, strict=True))


def _axes(shape: tuple[int, ...], numbers: WeightDimensionNumbers | None) -> tuple[list[int], list[int]]:
    """Returns the input axes and the output axes, counted from the front."""
    n = len(shape)
    if numbers is None:
        return list(range(n - 1)), list(range(max(n - 1, 0), n))
    axes = [[x] if isinstance(x, int) else list(x) for x in numbers]
    named = [i for part in axes for i in part]
    if any(not -n <= i < n for i in named) or len({i % n for i in named}) < len(named):
        raise ValueError(
            f"{numbers} does not fit an array of shape {shape}: every axis must exist, and be named only once. "
            "Give the axes of this weight, or None to leave it out."
        )
    inputs, outputs = ([i % n for i in part] for part in axes)
    return inputs, outputs
