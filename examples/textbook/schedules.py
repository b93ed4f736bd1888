"""Learning rate schedules.

The panels show PyTorch's schedulers, by their names. In gradtx a schedule is a function of the step: there is no
scheduler to advance or to restore, and the whole curve can be computed at once. `gx.compat.torch` has PyTorch's
schedulers with their arguments; gradtx's own schedules give the same curves under optax's names.

One schedule differs. After `T_max` steps PyTorch's cosine rises again, as the dotted line in the second panel shows;
gradtx's cosine keeps its last value. To draw a schedule of your own, call `gx.viz.plot_schedules`, or in a shell
`python -m gradtx.viz schedule "cosine_decay_schedule(0.1, 80)" --steps 100 --out cosine.png`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gradtx as gx
from examples.textbook import page
from gradtx.compat.torch import lr_scheduler as torch

D2L = "Zhang et al., Dive into Deep Learning, section 12.11", "https://d2l.ai/chapter_optimization/lr-scheduler.html"
SGDR = (
    "Loshchilov and Hutter, 2017, SGDR: Stochastic Gradient Descent with Warm Restarts",
    "https://arxiv.org/abs/1608.03983",
)
KATSURA = (
    "Katsura, CosineAnnealingWarmupRestarts for PyTorch",
    "https://github.com/katsura-jp/pytorch-cosine-annealing-with-warmup",
)
COSINE = r"\eta_t = \eta_{\min} + \frac{\eta_0 - \eta_{\min}}{2} \left( 1 + \cos \frac{\pi t}{T} \right)"
RESTARTS = r"\eta_t = \eta_{\min} + \frac{\eta_0 - \eta_{\min}}{2} \left( 1 + \cos \frac{\pi t_i}{T_i} \right)"
FORMULAS = [
    page.Formula(r"\eta_t = \eta_0 (t + 1)^{-1/2}", "A function of your own (LambdaLR), here the inverse root.", *D2L),
    page.Formula(
        r"\eta_t = \eta_0 \gamma^{\lfloor t / s \rfloor}, \quad \eta_t = \eta_0 \gamma^{|\{m \le t\}|}",
        "Steps of length s, and milestones m.",
        *D2L,
    ),
    page.Formula(r"\eta_t = \eta_0 \gamma^t", "Exponential.", *D2L),
    page.Formula(COSINE, "Cosine.", *D2L),
    page.Formula(RESTARTS, "Warm restarts: t_i is the step in cycle i, and T_(i+1) = T_mult T_i its length.", *SGDR),
    page.Formula(
        r"\eta_t = \eta_{\min} + (\gamma^i \eta_0 - \eta_{\min}) \frac{t_i}{W}, \quad t_i < W",
        "Restarts with warm-up and gamma: cycle i has W steps of warm-up, then a cosine from gamma^i eta_0.",
        *KATSURA,
    ),
    page.Formula(
        r"\eta_t = \eta_0 \left( f + (1 - f) \frac{t}{W} \right)",
        "Linear warm-up in W steps from f times the rate.",
        *D2L,
    ),
]

STEPS = 100


def root(step):
    return (step + 1.0) ** -0.5


# By panel: PyTorch's scheduler, and gradtx's schedule that gives the same curve.
PANELS = {
    "Constant and in steps": {
        "ConstantLR": (torch.ConstantLR(0.1, factor=1.0), gx.constant_schedule(0.1)),
        "LambdaLR": (torch.LambdaLR(0.1, root), gx.lambda_schedule(0.1, root)),
        "StepLR": (torch.StepLR(0.1, step_size=25, gamma=0.6), gx.step_schedule(0.1, 25, gamma=0.6)),
        "MultiStepLR": (torch.MultiStepLR(0.1, [15, 30], gamma=0.5), gx.multistep_schedule(0.1, [15, 30], gamma=0.5)),
    },
    "Smooth": {
        "ExponentialLR": (torch.ExponentialLR(0.1, gamma=0.95), gx.exponential_decay(0.1, 1, 0.95)),
        "CosineAnnealingLR": (
            torch.CosineAnnealingLR(0.1, T_max=80, eta_min=0.01),
            gx.cosine_decay_schedule(0.1, 80, 0.1),
        ),
    },
    "Restarts": {
        "CosineAnnealingWarmRestarts": (
            torch.CosineAnnealingWarmRestarts(0.1, T_0=14, T_mult=2),
            gx.cosine_restarts_schedule(0.1, 14, 2),
        ),
        "with warm-up and gamma": (None, gx.cosine_warmup_restarts_schedule(0.001, 25, 1, 0.1, warmup=5, gamma=0.7)),
    },
    "Warm-up, then a cosine": {
        "SequentialLR": (
            torch.SequentialLR(
                [torch.LinearLR(0.1, start_factor=0.01, total_iters=10), torch.CosineAnnealingLR(0.1, T_max=90)],
                milestones=[10],
            ),
            gx.warmup_cosine_decay_schedule(0.001, 0.1, warmup_steps=10, decay_steps=100),
        ),
    },
}
SCHEDULES = {name: pair for pairs in PANELS.values() for name, pair in pairs.items()}


class Result(NamedTuple):
    """The curves by PyTorch's names: of PyTorch's scheduler, if there is one, and of gradtx's own schedule."""

    torch: dict[str, np.ndarray]
    own: dict[str, np.ndarray]


def compute() -> Result:
    steps = jnp.arange(STEPS + 1)
    return Result(
        {name: np.asarray(theirs(steps)) for name, (theirs, _) in SCHEDULES.items() if theirs is not None},
        {name: np.asarray(own(steps)) for name, (_, own) in SCHEDULES.items()},
    )


def difference(result: Result, name: str) -> float:
    """Returns the largest difference between the two curves, up to the end of the cosine."""
    until = 81 if name == "CosineAnnealingLR" else None
    return float(np.abs(result.torch[name] - result.own[name])[:until].max())


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 7))
    axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    steps = np.arange(STEPS + 1)
    for ax, (title, pairs) in zip(axes, PANELS.items(), strict=True):
        for name, marker in zip(pairs, "os^D", strict=False):
            line = {"marker": marker, "markersize": 4, "markevery": (3, 10), "label": name}
            ax.plot(steps, result.own[name], drawstyle="steps-post" if "Step" in name else "default", **line)
        ax.set(title=title, xlabel="step", ylabel="learning rate", ylim=(0, 0.13))
        ax.legend(loc="upper right", ncols=1 if "Restarts" in title else 2)
    axes[1].plot(steps[80:], result.torch["CosineAnnealingLR"][80:], ":", color="C1")
    axes[1].annotate(
        "PyTorch's cosine goes on", (96, 0.021), (54, 0.06), arrowprops={"arrowstyle": "->", "color": "0.4"}
    )
    return figure


def conclusion(result: Result) -> str:
    most = max(difference(result, name) for name in result.torch)
    return (
        f"Eight of PyTorch's schedulers agree with gradtx's own schedules to {most:.0e}, up to the end of the cosine: "
        f"20 steps later PyTorch's has climbed to {result.torch['CosineAnnealingLR'][-1]:.3f} again."
    )


if __name__ == "__main__":
    page.main(__file__)
