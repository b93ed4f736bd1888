"""How gradtx's pictures look: colours for every eye, and lines that differ in grey, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = ["COLOURS", "LINES", "style"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colours of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/, which the colour-blind can tell apart."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
"""A line style for each colour, so that curves differ without colours, too."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Figures that are made inside of this context have gradtx's colours, lines and font sizes.

    >>> import gradtx as gx
    >>> from matplotlib.figure import Figure
    >>> with gx.viz.style():
    ...     axes = Figure().add_subplot()
    >>> axes.plot([0, 1])[0].get_color()
    '#0072B2'
    """
    import matplotlib
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
