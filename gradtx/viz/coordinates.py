"""Draws a coordinate check: how the sizes of activations depend on the width of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtx import checks
from gradtx.viz.style import curve, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_coordinates"]


def plot_coordinates(sizes: Mapping[str, Any], widths: Sequence[int], *, ylabel: str = "mean size") -> Figure:
    """Draws the sizes of each layer's activations against the width, one line per step, with logarithmic axes.

    Use it to check `scale_by_width`: train models of several widths for a few steps with the same learning rate. For
    each layer, measure the mean absolute value of the activations, or of their change since the start. If the learning
    rate transfers between widths, the lines are level. If lines rise, a wide model will diverge at the learning rate of
    a narrow model.

    Args:
      sizes: Maps the name of each layer to an array of shape (steps, len(widths)).
      widths: The widths, at least two positive numbers.
      ylabel: The label of the vertical axis, "mean size" by default.

    Returns:
      A matplotlib figure. The title of each panel has the layer's name and the slope of its last line: 0 is level, 1
      grows in proportion to the width.

    >>> import numpy as np, gradtx as gx
    >>> widths = np.array([64, 256, 1024])
    >>> figure = gx.viz.plot_coordinates({"hidden": np.stack([widths**0.0, widths**0.5])}, widths)
    >>> figure.axes[0].get_title()
    'hidden: width^0.50'

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: the shapes do not match, there is no layer, or a width is not positive.
      ImportError: matplotlib is not installed.
    """
    xs = _real("widths", widths)
    grids = {str(name): _real(f"sizes[{name!r}]", grid) for name, grid in dict(sizes).items()}
    if xs.ndim != 1 or len(xs) < 2 or not (xs > 0).all():
        raise ValueError(f"plot_coordinates: widths must be two or more positive numbers, got {checks.shown(widths)}.")
    for name, grid in grids.items():
        if grid.ndim != 2 or grid.shape[1] != len(xs) or not len(grid):
            raise ValueError(
                f"plot_coordinates: sizes[{name!r}] has shape {grid.shape}; it must have one row for each step and one "
                f"column for each of the {len(xs)} widths."
            )
    if not grids:
        raise ValueError("plot_coordinates: sizes is empty. Give at least one layer.")
    return _drawn(grids, xs, ylabel)


def _real(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"plot_coordinates: {name} must be an array of real numbers, got {checks.shown(value)}.")
    return array.astype(float)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Fits a power law y ~ x^a and returns a; infinity if y is not finite, and NaN if y is not positive."""
    if not np.isfinite(y).all():
        return float("inf")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if (y > 0).all() else float("nan")


@style()
def _drawn(grids: dict[str, np.ndarray], x: np.ndarray, ylabel: str) -> Figure:
    figure = new_figure(2.8 * len(grids) + 1.2, 3)
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    for axes, (name, grid) in zip(panels, grids.items(), strict=True):
        for step, row in enumerate(grid, 1):
            axes.plot(x, np.where(np.isfinite(row), row, np.nan), label=f"step {step}", markersize=4, **curve(step - 1))
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set(title=f"{name}: width^{_slope(x, grid[-1]):.2f}", xlabel="width")
        axes.grid(visible=True)
    panels[0].set_ylabel(ylabel)
    panels[-1].legend()
    return figure
