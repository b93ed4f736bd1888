"""The style of gradtx's pictures: colours that colour-blind readers can distinguish, and lines that differ in grey."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "GREY", "LINES", "MARKERS", "curve", "new_figure", "style"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, for colour-blind readers."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
"""A line style for each colour, so that curves also differ without colours."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""A marker for each colour."""

GREY = "#666666"
"""The colour of goals, starting points and notes."""


@contextlib.contextmanager
def style() -> Generator[None]:
    """Sets gradtx's colours, line styles and font sizes for all figures that you make inside this context.

    >>> import gradtx as gx
    >>> from matplotlib.figure import Figure
    >>> with gx.viz.style():
    ...     axes = Figure().add_subplot()
    >>> axes.plot([0, 1])[0].get_color()
    '#0072B2'
    """
    matplotlib = _imported()
    from cycler import cycler

    settings = {
        "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "legend.fontsize": "small",
        "savefig.dpi": 150,
    }
    with matplotlib.rc_context(settings):
        yield


def curve(i: int) -> dict[str, Any]:
    """Returns the colour, line style and marker of the i-th curve, as arguments of `axes.plot`.

    All colours are used before a colour is repeated. Each time the colours repeat, the line styles are shifted by one,
    so that 49 curves differ.
    """
    n = len(COLOURS)
    return {"color": COLOURS[i % n], "linestyle": LINES[(i + i // n) % n], "marker": MARKERS[(i + i // n) % n]}


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches. It does not use pyplot, which would look for a display."""
    _imported()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _imported() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ImportError("gradtx.viz draws with matplotlib: pip install 'gradtx[viz]'.") from None
    return matplotlib
