"""A race on Rosenbrock's valley.

Every optimizer starts at the same point and runs at the best of 61 learning rates, all tried in one vmapped run: the
rate with which it arrives first and stays. On the left are the paths. On the right, the thick line shows at each step
the largest gap to the minimum from this step to the end, so an optimizer arrives where its line falls below the goal.

The updates of Lion and Muon do not get shorter near the minimum. With a constant learning rate they circle the minimum;
with a learning rate that decays to zero they arrive. Muon is made for matrices: here the point is a matrix of two rows
and one column, for which the update is the momentum divided by the norm of the momentum.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gradtx as gx
from examples.textbook import page

FORMULAS = [
    page.Formula(
        r"f(x, y) = (1 - x)^2 + 100\,(y - x^2)^2",
        "A curved valley, whose floor hardly falls. The start is (-1.2, 1), the minimum is (1, 1).",
        "Rosenbrock, 1960, An Automatic Method for Finding the Greatest or Least Value of a Function",
        "https://doi.org/10.1093/comjnl/3.3.175",
    ),
    page.Formula(
        r"\left|x_{t+1} - x_t\right| = \left|y_{t+1} - y_t\right| = \eta",
        "Lion moves each coordinate by the learning rate, whatever the size of the gradient.",
        "Chen et al., 2023, Symbolic Discovery of Optimization Algorithms",
        "https://arxiv.org/abs/2302.06675",
    ),
    page.Formula(
        r"\mathrm{orthogonalize}(M) = U V^\top \text{ for } M = U \Sigma V^\top,\quad "
        r"\text{here } M / \lVert M \rVert",
        "Muon sets all singular values of the momentum to about one. A matrix with one column has one: its norm.",
        "Jordan et al., 2024, Muon: An optimizer for hidden layers in neural networks",
        "https://kellerjordan.github.io/posts/muon/",
    ),
]

STEPS = 300


def decayed(optimizer: Any, rate: Any) -> gx.GradientTransformation:
    """Makes the optimizer with a learning rate that decays to zero along a cosine."""
    return optimizer(gx.cosine_decay_schedule(rate, STEPS))


def compute() -> gx.viz.Race:
    optimizers = {
        "yogi": gx.yogi,
        "adamw": gx.adamw,
        "lion": gx.lion,
        "muon": gx.muon,
        "lion, decayed": partial(decayed, gx.lion),
        "muon, decayed": partial(decayed, gx.muon),
    }
    return gx.viz.race(optimizers, "rosenbrock", STEPS)


def draw(race: gx.viz.Race) -> Any:
    return gx.viz.plot_race(race)


def conclusion(race: gx.viz.Race) -> str:
    yogi, adamw, lion, muon, lion_decayed, muon_decayed = race.racers
    return (
        f"Of {STEPS} steps on Rosenbrock's function, Yogi needs {yogi.arrival} and AdamW {adamw.arrival} at their best "
        f"learning rates ({yogi.rate:.2g} and {adamw.rate:.2g}); Lion and Muon stop short, at gaps of "
        f"{lion.gaps[-1]:.2g} and {muon.gaps[-1]:.2g}, until their learning rates decay: then they arrive at steps "
        f"{lion_decayed.arrival} and {muon_decayed.arrival}."
    )


if __name__ == "__main__":
    page.main(__file__)
