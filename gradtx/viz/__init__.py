"""Draws schedules, races of optimizers, runs and sweeps with matplotlib: `pip install 'gradtx[viz]'`."""

from gradtx.viz.coordinates import plot_coordinates
from gradtx.viz.panels import plot_metrics
from gradtx.viz.problems import PROBLEMS, Problem
from gradtx.viz.race_pictures import animate_race, plot_race
from gradtx.viz.races import Race, Racer, race
from gradtx.viz.rate_range import RangeTest, plot_range_test, range_test
from gradtx.viz.schedules import plot_schedules
from gradtx.viz.style import style
from gradtx.viz.sweeps import plot_sweep

__all__ = [
    "PROBLEMS",
    "Problem",
    "Race",
    "Racer",
    "RangeTest",
    "animate_race",
    "plot_coordinates",
    "plot_metrics",
    "plot_race",
    "plot_range_test",
    "plot_schedules",
    "plot_sweep",
    "race",
    "range_test",
    "style",
]
