"""Pictures. matplotlib is imported when one is drawn: `pip install 'gradtx[viz]'`."""

from gradtx.viz.schedules import plot_schedules
from gradtx.viz.style import style

__all__ = ["plot_schedules", "style"]
