"""Draws a sweep over two hyperparameters as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtx import checks
from gradtx.viz.style import new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_sweep"]

_DECADES = 0.5
"""Positive values that span more than this number of powers of ten get a logarithmic colour scale."""
_LABELS = 12
"""Largest number of labels on an axis."""


def plot_sweep(
    values: Any,
    x: Sequence[float],
    y: Sequence[float],
    *,
    xlabel: str = "learning rate",
    ylabel: str = "weight decay",
    label: str = "loss",
    best: str = "lowest",
) -> Figure:
    """Draws a sweep over two hyperparameters as a heat map, with a ring around the best cell.

    Brighter cells are better; the worst tenth of the cells have the same colour. Cells of runs that diverged (whose
    value is not finite) are hatched. All cells have the same size, whatever the spacing of the hyperparameters.
    Colour-blind readers can distinguish the colours (cividis), and so can readers of a grey print.

    Args:
      values: The result of each run, such as the final loss: an array of shape (len(y), len(x)), one row for each `y`.
      x: The values of the hyperparameter along the horizontal axis.
      y: The values of the hyperparameter along the vertical axis.
      xlabel: The name of the hyperparameter `x`, "learning rate" by default.
      ylabel: The name of the hyperparameter `y`, "weight decay" by default.
      label: The name of `values` for the title and the colour bar, "loss" by default.
      best: Which value is best: "lowest" (default), as for a loss, or "highest", as for an accuracy.

    Returns:
      A matplotlib figure; save it with `figure.savefig`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> rates, decays = jnp.geomspace(1e-3, 0.1, 3), jnp.array([0.0, 0.01, 0.1])
    >>> def reached(rate, decay):
    ...     tx, w = gx.adamw(rate, weight_decay=decay), jnp.ones(2)
    ...     updates, _ = tx.update(w, tx.init(w), w)
    ...     return jnp.sum(gx.apply_updates(w, updates) ** 2)
    >>> values = jax.vmap(lambda decay: jax.vmap(lambda rate: reached(rate, decay))(rates))(decays)
    >>> figure = gx.viz.plot_sweep(values, rates, decays)
    >>> figure.axes[0].get_title()
    'lowest loss: 1.58 at learning rate 0.1, weight decay 0.1'

    Raises:
      TypeError: an argument is not an array of real numbers.
      ValueError: the shapes do not match, no value is finite, or `best` is neither "lowest" nor "highest".
      ImportError: matplotlib is not installed.
    """
    checks.choice("plot_sweep", "best", best, ("lowest", "highest"))
    grid, xs, ys = _real("values", values), _real("x", x), _real("y", y)
    if xs.ndim != 1 or ys.ndim != 1 or grid.shape != (len(ys), len(xs)):
        raise ValueError(
            f"plot_sweep: values must have one row for each y and one column for each x, got shapes {grid.shape}, "
            f"{ys.shape} for y and {xs.shape} for x." + " Give values.T." * (grid.shape == (xs.size, ys.size))
        )
    if not np.isfinite(grid).any():
        raise ValueError("plot_sweep: no value is finite: every run diverged. Sweep over smaller learning rates.")
    return _drawn(grid, xs, ys, xlabel, ylabel, label, best)


def _real(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
        if np.iscomplexobj(array):
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError):
        raise TypeError(f"plot_sweep: {name} must be an array of real numbers, got {checks.shown(value)}.") from None


@style()
def _drawn(grid: np.ndarray, x: np.ndarray, y: np.ndarray, xlabel: str, ylabel: str, label: str, best: str) -> Figure:
    from matplotlib.colors import LogNorm, Normalize

    figure = new_figure(8, 1.8 + 0.3 * max(6, min(len(y), 14)))
    axes = figure.add_subplot()
    finite = grid[np.isfinite(grid)]
    low, high = finite.min(), finite.max()
    if best == "lowest":
        high, colours, cut = np.percentile(finite, 90), "cividis_r", "max"
    else:
        low, colours, cut = np.percentile(finite, 10), "cividis", "min"
    cut = cut if low > finite.min() or high < finite.max() else "neither"
    norm = (LogNorm if low > 0 and high > 10**_DECADES * low else Normalize)(low, high)
    cells = axes.pcolormesh(np.ma.masked_invalid(grid), norm=norm, cmap=colours, edgecolors="white", linewidth=0.5)
    rows, columns = np.nonzero(~np.isfinite(grid))
    for row, column in zip(rows, columns, strict=True):
        axes.add_patch(_patch(column, row, facecolor="#DDDDDD", edgecolor="#888888", hatch="////", linewidth=0))
    pick = np.nanargmin if best == "lowest" else np.nanargmax
    row, column = np.unravel_index(pick(np.where(np.isfinite(grid), grid, np.nan)), grid.shape)
    axes.add_patch(_patch(column, row, fill=False, edgecolor="#D55E00", linewidth=2.5, zorder=4))
    where = f"at {xlabel} {x[column]:.2g}, {ylabel} {y[row]:.2g}"
    axes.set_title(f"{best} {label}: {grid[row, column]:.3g} {where}")
    _number(axes.xaxis, x)
    _number(axes.yaxis, y)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(cells, ax=axes, label=label, pad=0.02, extend=cut, format="%.3g")
    if isinstance(norm, LogNorm) and high < 10 * low:  # labels at powers of ten would give at most one label
        bar.ax.yaxis.set_minor_formatter(bar.ax.yaxis.get_major_formatter())
    bar.outline.set_visible(False)
    if len(rows):
        from matplotlib.patches import Patch

        key = Patch(facecolor="#DDDDDD", edgecolor="#888888", hatch="////", linewidth=0, label="diverged")
        figure.legend(handles=[key], loc="outside upper right")
    return figure


def _patch(column: Any, row: Any, **look: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, **look)


def _number(axis: Any, values: np.ndarray) -> None:
    """Labels the cells along an axis, at most `_LABELS` of them."""
    shown = range(0, len(values), -(-len(values) // _LABELS))
    axis.set_ticks([i + 0.5 for i in shown], [f"{values[i]:.2g}" for i in shown])
