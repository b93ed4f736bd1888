"""Draws the recorded metrics of a run against the steps, each quantity in its own panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.viz.style import curve, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_metrics"]

_UNEVEN = 10.0
"""A positive quantity whose largest value is more than this times its median is drawn on a logarithmic scale."""
_GROUPED = ("learning_rate", "update_ratio")  # in these metrics the group is after the name; in others it is before


def plot_metrics(history: Sequence[Mapping[str, Any]], steps: Sequence[int] | None = None) -> Figure:
    """Draws recorded metrics against the steps, in one panel per quantity.

    Use it after a run to see the loss, norms and learning rates side by side. A panel gets a logarithmic scale if its
    values are positive and the largest value is more than ten times the median; zeros then leave gaps. Groups of a
    quantity, such as `update_ratio` and `update_ratio/bias`, share a panel. Values that are not finite leave a gap in
    the curve, and are marked with crosses at the top.

    Args:
      history: A dict of scalars for each step, such as `{"loss": value, **gx.metrics(state)}`. A metric may be missing
        at some steps; a line then connects the steps that have the metric.
      steps: The step number of each dict. None (default) for 1, 2, 3 and so on.

    Returns:
      A matplotlib figure; save it with `figure.savefig`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.with_metrics(gx.adam(0.1))
    >>> step = gx.value_and_step(lambda w: jnp.sum(w**2), tx)
    >>> params, history = jnp.ones(3), []
    >>> state = tx.init(params)
    >>> for _ in range(5):
    ...     params, state, loss = step(params, state)
    ...     history.append({"loss": loss, **gx.metrics(state)})
    >>> figure = gx.viz.plot_metrics(history)
    >>> [axes.get_title('left') for axes in figure.axes][:3]
    ['loss', 'finite', 'grad_norm']

    Raises:
      TypeError: `history` is not a sequence of dicts of scalars.
      ValueError: there is nothing to draw, or `steps` has a different length.
      ImportError: matplotlib is not installed.
    """
    records = _records(history)
    numbers = np.arange(1, len(records) + 1) if steps is None else np.asarray(steps)
    if numbers.shape != (len(records),):
        raise ValueError(
            f"plot_metrics: steps must have one number for each dict of history, {len(records)} in all, got an array "
            f"of shape {numbers.shape}."
        )
    panels: dict[str, dict[str, _Curve]] = {}
    for name in dict.fromkeys(name for record in records for name in record):
        there = [name in record for record in records]
        values = np.asarray([record[name] for record in records if name in record])
        quantity, group = _parts(name)
        panels.setdefault(quantity, {})[group] = _Curve(numbers[there], values)
    if not panels:
        raise ValueError("plot_metrics: history has no metrics: there is nothing to draw.")
    return _drawn(panels)


class _Curve(NamedTuple):
    steps: np.ndarray
    values: np.ndarray


def _records(history: Any) -> list[dict[str, Any]]:
    """Returns the dicts of `history` with NumPy scalars as values."""
    if not isinstance(history, Sequence) or not all(isinstance(record, Mapping) for record in history):
        raise TypeError(
            "plot_metrics: history must be a list of dicts of scalars, one for each step, such as "
            f"[gx.metrics(state), ...], got {checks.shown(history)}."
        )
    # As lists, because device_get sorts the keys of a dict.
    values = jax.device_get([list(record.values()) for record in history])
    records = [dict(zip(record, row, strict=True)) for record, row in zip(history, values, strict=True)]
    for i, record in enumerate(records):
        for name, value in record.items():
            x = np.asarray(value)
            if x.shape != () or not any(jnp.issubdtype(x.dtype, kind) for kind in (bool, np.integer, np.floating)):
                raise TypeError(
                    f"plot_metrics: history[{i}][{name!r}] must be one real number, got {checks.shown(value)}."
                )
            record[name] = x if x.dtype == bool else x.astype(float)
    return records


def _parts(name: str) -> tuple[str, str]:
    """Splits a metric's name into its quantity and its group (of parameters, or a transformation of the chain)."""
    head, _, rest = name.partition("/")
    if head in _GROUPED:
        return head, rest
    group, _, quantity = name.rpartition("/")
    return quantity, group


@style()
def _drawn(panels: Mapping[str, Mapping[str, _Curve]]) -> Figure:
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(4 * columns, 0.5 + 1.6 * rows)
    cells = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel().tolist()
    for cell, (quantity, curves) in zip(cells, panels.items(), strict=False):
        _panel(cell, quantity, curves)
    for cell in cells[len(panels) - columns : len(panels)]:  # the lowest panel of each column
        cell.set_xlabel("step")
        cell.tick_params(labelbottom=True)
    for cell in cells[len(panels) :]:
        cell.remove()
    return figure


def _panel(axes: Any, quantity: str, curves: Mapping[str, _Curve]) -> None:
    axes.set_title(quantity, loc="left")
    axes.grid()
    axes.margins(x=0.01)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for i, (group, (steps, values)) in enumerate(curves.items()):
        look, finite = curve(i), np.isfinite(values)
        if len(curves) == 1 and len(steps) > 30:
            look["marker"] = ""
        y = np.where(finite, values, np.nan)
        label = group or "all"
        axes.plot(steps, y, **look, markersize=4, markevery=max(1, len(steps) // 8), linewidth=1.4, label=label)
        if not finite.all():
            top = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.plot(steps[~finite], np.ones(np.sum(~finite)), "x", color="black", markersize=5, **top)
    if len(curves) > 1:
        axes.legend(fontsize="x-small")
    values = np.concatenate([values for _, values in curves.values()])
    if values.dtype == bool:
        axes.set(yticks=[0, 1], yticklabels=["no", "yes"], ylim=(-0.2, 1.2))
    elif _is_uneven(values[np.isfinite(values)]):
        axes.set_yscale("log", nonpositive="mask")


def _is_uneven(values: np.ndarray) -> bool:
    """Whether to use a logarithmic scale: no value is negative, few are zero, and some are far above the median."""
    if not len(values) or values.min() < 0 or np.mean(values > 0) < 0.9:
        return False
    return bool(values.max() > _UNEVEN * np.median(values))
