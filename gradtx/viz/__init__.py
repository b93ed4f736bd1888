"""Pictures. matplotlib is imported when one is drawn: `pip install 'gradtx[viz]'`."""

from gradtx.viz.problems import PROBLEMS, Problem
from gradtx.viz.race_pictures import animate_race, plot_race
from gradtx.viz.races import Race, Racer, race
from gradtx.viz.schedules import plot_schedules
from gradtx.viz.style import style

__all__ = [
    "PROBLEMS",
    "Problem",
    "Race",
    "Racer",
    "animate_race",
    "plot_race",
    "plot_schedules",
    "race",
    "style",
]
