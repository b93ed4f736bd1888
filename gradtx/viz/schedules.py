"""Draws the curves of schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.core.hyper import Schedule, function_schedule
from gradtx.viz.style import new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cycle_starts", "plot_schedules"]

_POINTS = 4000  # more points would not be visible


def plot_schedules(schedules: Mapping[str, Schedule | Callable[[Any], Any]], steps: int) -> Figure:
    """Draws the curves of one or several schedules.

    Use it to check a schedule before a run. Marks show where cycles start.

    Args:
      schedules: A dict from labels to schedules (or other functions of the step count).
      steps: Number of steps to draw.

    Returns:
      A matplotlib figure; save it with `figure.savefig`.

    >>> import gradtx as gx
    >>> figure = gx.viz.plot_schedules({"rate": gx.cosine_decay_schedule(0.1, 1000)}, steps=1000)
    >>> figure.axes[0].get_xlabel()
    'step'

    Raises:
      TypeError: `schedules` is not a dict of schedules, or `steps` is not an integer.
      ValueError: there is nothing to draw, or a value is not finite.
      ImportError: matplotlib is not installed.
    """
    checks.integer("plot_schedules", "steps", steps, ge=1)
    curves = {label: _curve(label, schedule, steps) for label, schedule in _checked(schedules).items()}
    return _drawn(curves, steps)


@style()
def _drawn(curves: Mapping[str, np.ndarray], steps: int) -> Figure:
    figure = new_figure(8, 4)
    axes = figure.add_subplot()
    shown = np.unique(np.linspace(0, steps - 1, min(steps, _POINTS)).round().astype(int))
    for label, curve in curves.items():
        starts = cycle_starts(curve)
        drawn = np.union1d(shown, np.concatenate([starts, np.maximum(starts - 1, 0)]))  # draws jumps as vertical lines
        (line,) = axes.plot(drawn, curve[drawn], label=label)
        axes.plot(starts, curve[starts], "o", color=line.get_color(), markersize=4)
        for start in starts:
            axes.axvline(start, color=line.get_color(), linewidth=0.5, linestyle=":")
    axes.set_xlabel("step")
    axes.set_ylabel("value")
    axes.margins(x=0.01)
    if len(curves) == 1:
        axes.set_title(next(iter(curves)))
    else:
        figure.legend(loc="outside upper left")
    return figure


def cycle_starts(curve: np.ndarray) -> np.ndarray:
    """Returns the steps after the first at which a curve starts a new cycle.

    A cycle starts where the curve turns from falling to rising, or where it jumps up by more than a twentieth of its
    range and by more than three times the changes just before and after.
    """
    change = np.diff(curve)
    if not len(change):
        return np.zeros(0, int)
    size = np.abs(change)
    around = np.maximum(np.append(np.inf, size[:-1]), np.append(size[1:], 0))
    jumps = (change > 0.05 * np.ptp(curve)) & (change > 3 * around)
    starts = set((np.flatnonzero(jumps) + 1).tolist())
    moving = np.flatnonzero(size > 1e-6 * np.ptp(curve))
    turns = (change[moving[:-1]] < 0) & (change[moving[1:]] > 0)
    starts |= {int(i) for i in moving[1:][turns] if i + 1 not in starts}
    return np.asarray(sorted(starts), int)


def _checked(schedules: Any) -> dict[str, Schedule]:
    if not isinstance(schedules, Mapping) or not all(callable(s) for s in schedules.values()):
        raise TypeError(
            "plot_schedules: schedules must be a dict from label to schedule, such as "
            f"{{'rate': gx.cosine_decay_schedule(0.1, 1000)}}, got {checks.shown(schedules)}."
        )
    if not schedules:
        raise ValueError("plot_schedules: schedules is empty: there is nothing to draw.")
    return {str(k): s if isinstance(s, Schedule) else function_schedule(s) for k, s in schedules.items()}


def _curve(label: str, schedule: Schedule, steps: int) -> np.ndarray:
    curve = np.broadcast_to(np.asarray(schedule(jnp.arange(steps)), float), (steps,))
    bad = np.flatnonzero(~np.isfinite(curve))
    if len(bad):
        raise ValueError(f"plot_schedules: {label} is {curve[bad[0]]} at step {bad[0]}: only finite values are drawn.")
    return curve
