"""Draws races: the paths on a map of the function, and the gap f - min f against the steps, still or animated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from gradtx import checks
from gradtx.viz.problems import Problem
from gradtx.viz.races import Race, Racer
from gradtx.viz.style import GREY, curve, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["animate_race", "plot_race"]

_CELLS = 240
_LEVELS = 14


def plot_race(race: Race) -> Figure:
    """Draws a race: the paths on a map of the function, and next to the map the gap f - min f against the steps.

    Stars mark the minima, and the cross marks the start. On the right, the thin line is the gap at each step, and the
    thick line is the largest gap from this step to the end of the race. An optimizer arrives when its thick line falls
    below the goal. The legend shows each optimizer's learning rate and the step at which it arrived.

    Args:
      race: The result of `gx.viz.race`.

    Returns:
      A matplotlib figure; save it with `figure.savefig`.

    >>> import gradtx as gx
    >>> result = gx.viz.race({"sgd": gx.sgd, "newton": gx.newton()}, "ravine", steps=200)
    >>> figure = gx.viz.plot_race(result)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['sgd, rate 0.083: arrives at step 169', 'newton: arrives at step 1']

    Raises:
      TypeError: `race` is not a result of `gx.viz.race`.
      ImportError: matplotlib is not installed.
    """
    _check("plot_race", race)
    return _drawn(race)[0]


def animate_race(
    race: Race,
    out: str | os.PathLike[str],
    frames: int = 90,
    fps: int = 15,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Figure:
    """Writes a race as an animated GIF, and returns the figure of the last frame.

    Args:
      race: The result of `gx.viz.race`.
      out: The path of the GIF.
      frames: Number of pictures, 90 by default. Early steps, where the paths move fast, get more pictures than late
        steps.
      fps: Pictures per second, 15 by default. The last picture is shown for two seconds.
      progress: A function that wraps the iterable of frames, such as `tqdm.tqdm`. By default no progress is shown.

    >>> import pathlib, tempfile, gradtx as gx
    >>> result = gx.viz.race({"sgd": gx.sgd}, "ravine", steps=20)
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "race.gif"
    >>> figure = gx.viz.animate_race(result, out, frames=2)
    >>> out.read_bytes()[:6]
    b'GIF89a'

    Raises:
      TypeError: `race` is not a result of `gx.viz.race`, or a number is not an integer.
      ValueError: `frames` or `fps` is less than 1.
      ImportError: matplotlib is not installed.
    """
    _check("animate_race", race)
    checks.integer("animate_race", "frames", frames, ge=1)
    checks.integer("animate_race", "fps", fps, ge=1)
    return _animated(race, out, frames, fps, progress)


@style()
def _animated(race: Race, out: Any, frames: int, fps: int, progress: Any) -> Figure:
    figure, moving, show = _drawn(race)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.dpi = 100
    canvas = FigureCanvasAgg(figure)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)  # the still background is drawn once; moving artists are drawn over it

    def picture(step: int) -> Image.Image:
        show(step)
        canvas.restore_region(still)
        for artist in sorted(moving, key=lambda artist: artist.zorder):
            figure.draw_artist(artist)
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])

    steps = len(race.racers[0].gaps) - 1
    palette = picture(steps).quantize(
        128, Image.Quantize.MAXCOVERAGE
    )  # one palette for all pictures, without dithering, so that still areas need no bytes
    at = np.rint(steps * np.linspace(0, 1, frames) ** 1.5).astype(int) if frames > 1 else np.array([steps])
    pictures = [picture(step).quantize(palette=palette, dither=Image.Dither.NONE) for step in progress(at.tolist())]
    durations = [1000 // fps] * (frames - 1) + [2000]
    pictures[0].save(os.fspath(out), "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    for artist in moving:
        artist.set_animated(False)
    return figure


@style()
def _drawn(race: Race) -> tuple[Figure, list[Any], Callable[[int], None]]:
    """Returns the figure, the artists that move, and a function that shows the race up to a step."""
    labels = [_label(racer, race.decay) for racer in race.racers]
    columns = 2 if max(map(len, labels)) < 66 else 1
    figure = new_figure(8, 3.9 + 0.2 * -(-len(labels) // columns))
    chart, gaps = figure.subplots(1, 2, width_ratios=(1.1, 1))
    marks = _map(chart, race.problem)
    steps = len(race.racers[0].gaps) - 1
    lines = [_racer(chart, gaps, racer, i, steps) for i, racer in enumerate(race.racers)]
    gaps.axhline(race.goal, color=GREY, linewidth=0.8, linestyle=(0, (4, 4)))
    gaps.annotate(
        " goal", (1, race.goal), xycoords=("axes fraction", "data"), color=GREY, va="center", fontsize="small"
    )
    first = race.racers[0].gaps[0]
    gaps.set(yscale="log", ylim=(race.goal / 100, first * 30), xlim=(0, steps), xlabel="step")
    gaps.set_ylabel("largest $f - \\min f$ from here on")
    gaps.grid()
    gaps.xaxis.get_major_locator().set_params(integer=True)
    number = gaps.set_title(f"{steps} steps")
    figure.legend([path for path, *_ in lines], labels, loc="outside lower center", ncols=columns, handlelength=3.5)

    def show(step: int) -> None:
        for (path, head, largest, gap), racer in zip(lines, race.racers, strict=True):
            path.set_data(racer.path[: step + 1].T)
            head.set_data(racer.path[step : step + 1].T)
            largest.set_data(np.arange(step + 1), _largest(racer)[: step + 1])
            gap.set_data(np.arange(step + 1), racer.gaps[: step + 1])
        number.set_text(f"step {step} of {steps}")

    return figure, [*(artist for group in lines for artist in group), *marks, number], show


def _map(axes: Any, problem: Problem) -> list[Any]:
    """Draws contours of f - min f at logarithmically spaced levels; returns the marks at the minima and the start."""
    left, right = problem.window[0]
    bottom, top = problem.window[1]
    x, y = np.meshgrid(np.linspace(left, right, _CELLS), np.linspace(bottom, top, _CELLS))
    gap = np.log10(np.maximum(problem.f(x, y) - problem.lowest, 1e-12))
    low, high = np.percentile(gap, [0.5, 100])
    levels = np.linspace(low, high, _LEVELS)
    # Light colours, so that the paths stand out.
    shades = {"vmin": low - 0.2 * (high - low), "vmax": high + 2.5 * (high - low)}
    axes.contourf(x, y, gap, levels=levels, cmap="Greys", extend="both", **shades)
    axes.contour(x, y, gap, levels=levels, colors="white", linewidths=0.6, linestyles="-")
    minima = axes.plot(*np.transpose(problem.minima), "*", mfc="none", mec="black", markersize=15, zorder=9)
    start = axes.plot(*problem.start, "x", color="black", markersize=8, markeredgewidth=2, zorder=9)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="$x$", ylabel="$y$")
    head, plus, tail = problem.formula.rpartition(" + ") if len(problem.formula) > 45 else (problem.formula, "", "")
    axes.set_title(f"${head}$" + f"\n${plus}{tail}$" * bool(plus), fontsize="small" if plus else "medium")
    return [*minima, *start]


def _racer(chart: Any, gaps: Any, racer: Racer, i: int, steps: int) -> tuple[Any, Any, Any, Any]:
    """Draws a racer, and returns four lines: the path, the latest point, the largest gaps to come, and the gaps."""
    look, every = curve(i), max(1, steps // 10)
    (path,) = chart.plot(*racer.path.T, **look, linewidth=1.5, markersize=3.5, markevery=every)
    (head,) = chart.plot(*racer.path[-1:].T, look["marker"], color=look["color"], mec="black", markersize=5, zorder=6)
    marks = {"markersize": 4, "markevery": (i * every // 5, every)}
    (largest,) = gaps.plot(_largest(racer), **look, **marks, linewidth=1.8, zorder=3)
    (gap,) = gaps.plot(racer.gaps, color=look["color"], linestyle="-", linewidth=0.5, alpha=0.4)
    return path, head, largest, gap


def _largest(racer: Racer) -> np.ndarray:
    """Returns for each step the largest gap from this step to the end; after the arrival it is below the goal."""
    return np.maximum.accumulate(racer.gaps[::-1])[::-1]


def _label(racer: Racer, decay: bool) -> str:
    where = " (2x1 matrix)" if racer.matrix else ""
    rate = "" if racer.rate is None else f", rate {racer.rate:.2g}" + " → 0" * decay
    end = "does not arrive" if racer.arrival is None else f"arrives at step {racer.arrival}"
    return f"{racer.label}{where}{rate}: {end}"


def _check(who: str, race: Any) -> None:
    if not isinstance(race, Race):
        raise TypeError(f"{who}: race must be a result of gx.viz.race(...), got {checks.shown(race)}.")
