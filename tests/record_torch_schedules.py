"""Records the rates of PyTorch's schedulers in float64, in `tests/recordings/torch_schedules.npz`.

    python tests/record_torch_schedules.py

needs torch 2.13 and NumPy, and nothing of gradtx. What is recorded: for every expression below, the rate of each of
STEPS steps of an optimizer with the rate LR, where each `optimizer.step()` is followed by a `scheduler.step()`, and
NaN from where PyTorch raises; for those in MOMENTA the momentum too, under their name and " momentum". The
expressions are evaluated in a namespace where every class takes the rate in place of the optimizer, as in gradtx, and
lists of schedulers are built from left to right. The signatures of the classes are recorded with them, and what is
listed in REFUSED is seen to raise an error.
"""

from __future__ import annotations

import inspect
import json
import pathlib
import warnings
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "recordings" / "torch_schedules.npz"
VERSION = "2.13"
STEPS = 500
LR = 0.1

NAMES = [
    "LambdaLR",
    "MultiplicativeLR",
    "StepLR",
    "MultiStepLR",
    "ConstantLR",
    "LinearLR",
    "ExponentialLR",
    "PolynomialLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "OneCycleLR",
    "ChainedScheduler",
    "SequentialLR",
]

_WARM = "LinearLR(lr, start_factor=0.01, total_iters=20)"

MOMENTA = [
    "CyclicLR(lr, 0.1, 0.5, step_size_up=20)",
    "CyclicLR(lr, 0.01, 0.2, 30, 50, mode='exp_range', gamma=0.99, base_momentum=0.5)",
    "OneCycleLR(lr, max_lr=1.0, total_steps=300)",
    "OneCycleLR(lr, 1.0, epochs=25, steps_per_epoch=20, three_phase=True, anneal_strategy='linear', base_momentum=0.7)",
]

CURVES = [
    "LambdaLR(lr, lambda t: 0.95**t)",
    "LambdaLR(lr, lr_lambda=lambda t: t // 30)",
    "LambdaLR(lr, lambda t: 1 / (1 + t / 7))",
    "LambdaLR(lr, lambda t: (t < 50) * 0.5)",
    "MultiplicativeLR(lr, lambda t: 0.95)",
    "MultiplicativeLR(lr, lr_lambda=lambda t: 1 - 1 / (t + 1) ** 2)",
    "MultiplicativeLR(lr, lambda t: 1 - 0.5 * (t % 100 == 0))",
    "StepLR(lr, step_size=200, gamma=0.5)",
    "StepLR(lr, 30)",
    "StepLR(lr, 1, 0.99)",
    "StepLR(lr, 7, gamma=1.01)",
    "StepLR(lr, 1000, 0.0)",
    "MultiStepLR(lr, [30, 80])",
    "MultiStepLR(lr, milestones=[80, 30, 300, 7], gamma=0.3)",
    "MultiStepLR(lr, [50, 50, 50, 0, 10, 10, 600], 0.7)",
    "MultiStepLR(lr, [], 0.7)",
    "MultiStepLR(lr, range(0, 500, 11), 0.9)",
    "ConstantLR(lr)",
    "ConstantLR(lr, factor=0.5, total_iters=40)",
    "ConstantLR(lr, 1.0, 1)",
    "ConstantLR(lr, 0.1, 1000)",
    "LinearLR(lr)",
    "LinearLR(lr, start_factor=0.05, total_iters=40)",
    "LinearLR(lr, 1.0, 0.0, 300)",
    "LinearLR(lr, 1e-8, 0.7, 1)",
    "LinearLR(lr, start_factor=1e-8, end_factor=1.0, total_iters=450)",
    "LinearLR(lr, 0.9, 0.2, 1000)",
    "ExponentialLR(lr, gamma=0.95)",
    "ExponentialLR(lr, 1.0)",
    "ExponentialLR(lr, 0.999)",
    "ExponentialLR(lr, 1.01)",
    "ExponentialLR(lr, 0.0)",
    "PolynomialLR(lr)",
    "PolynomialLR(lr, total_iters=300, power=0.9)",
    "PolynomialLR(lr, 450, 2.0)",
    "PolynomialLR(lr, 1, 0.5)",
    "PolynomialLR(lr, 100, 0.0)",
    "PolynomialLR(lr, 1000, 3.0)",
    "CosineAnnealingLR(lr, T_max=50)",
    "CosineAnnealingLR(lr, 499)",
    "CosineAnnealingLR(lr, 200, eta_min=1e-4)",
    "CosineAnnealingLR(lr, 7, 0.05)",
    "CosineAnnealingLR(lr, 1, 0.01)",
    "CosineAnnealingLR(lr, 60, eta_min=0.3)",
    "CosineAnnealingLR(lr, 1000)",
    "CosineAnnealingWarmRestarts(lr, T_0=20)",
    "CosineAnnealingWarmRestarts(lr, 10, T_mult=2, eta_min=1e-3)",
    "CosineAnnealingWarmRestarts(lr, 1, 3)",
    "CosineAnnealingWarmRestarts(lr, 1)",
    "CosineAnnealingWarmRestarts(lr, 30, 5, 0.2)",
    "CosineAnnealingWarmRestarts(lr, 1000, 2)",
    "CyclicLR(lr, base_lr=0.01, max_lr=0.1)",
    "CyclicLR(lr, 0.001, 0.1, step_size_up=17, step_size_down=30, mode='triangular2')",
    "CyclicLR(lr, 0.2, 0.1, step_size_up=1, mode='exp_range', gamma=0.995, cycle_momentum=False)",
    "CyclicLR(lr, 0.01, 0.1, 40, scale_fn=lambda i: 1 / (1 + i), scale_mode='cycle')",
    "CyclicLR(lr, 0.01, 0.1, 40, 20, mode='?', scale_fn=lambda t: 0.99**t, scale_mode='iterations')",
    "CyclicLR(lr, 0.01, 0.1, 7, gamma=0.5, scale_mode='iterations')",
    *MOMENTA,
    "OneCycleLR(lr, 0.1, total_steps=500)",
    "OneCycleLR(lr, 0.1, 100, pct_start=0.0)",
    "OneCycleLR(lr, 0.1, 100, pct_start=0.123, anneal_strategy='linear', cycle_momentum=False)",
    "OneCycleLR(lr, 0.1, 100, pct_start=1.0)",
    "OneCycleLR(lr, 0.1, 100, pct_start=0.6, three_phase=True)",
    "OneCycleLR(lr, 0.1, 150, div_factor=2.0, final_div_factor=10.0, three_phase=True)",
    "OneCycleLR(lr, 0.1, 10, pct_start=0.05)",
    "OneCycleLR(lr, 0.1, 1000)",
    "ChainedScheduler([ConstantLR(lr, 0.1, 20), ExponentialLR(lr, 0.99)])",
    "ChainedScheduler([LinearLR(lr, 0.2, 1.0, 50), StepLR(lr, 60, 0.5), MultiStepLR(lr, [0, 90, 40, 90], 0.8)])",
    "ChainedScheduler([PolynomialLR(lr, 400, 1.5), MultiplicativeLR(lr, lambda t: 0.999), ConstantLR(lr, 0.5, 33)])",
    "ChainedScheduler([LinearLR(lr, 0.2, 1.0, 50), CosineAnnealingLR(lr, 450)])",
    "ChainedScheduler([CosineAnnealingLR(lr, 60), ExponentialLR(lr, 0.99), StepLR(lr, 61, 0.9)])",
    "ChainedScheduler([StepLR(lr, 61), LinearLR(lr, 0.5, 0.0, 40), CosineAnnealingLR(lr, 60), PolynomialLR(lr, 9)])",
    "ChainedScheduler([MultiplicativeLR(lr, lambda t: 0.99), CosineAnnealingLR(lr, 60), ConstantLR(lr, 0.5, 61)])",
    "ChainedScheduler([CosineAnnealingLR(lr, 70, 0.01)])",
    "ChainedScheduler([ChainedScheduler([ExponentialLR(lr, 0.99), StepLR(lr, 50)]), ConstantLR(lr, 0.5, 10)])",
    "ChainedScheduler([ExponentialLR(lr, 0.9), LambdaLR(lr, lambda t: 1 / (1 + t)), StepLR(lr, 5)])",
    "ChainedScheduler([LambdaLR(lr, lambda t: 1 / (1 + t)), CosineAnnealingLR(lr, 30), LinearLR(lr, 0.1)])",
    "ChainedScheduler([CosineAnnealingWarmRestarts(lr, 30), PolynomialLR(lr, 100), MultiStepLR(lr, [3, 3, 0])])",
    "ChainedScheduler([LinearLR(lr), CyclicLR(lr, lr, 0.2, 13), ExponentialLR(lr, 0.9)])",
    "ChainedScheduler([LinearLR(lr, 0.3, 0.9, 9), SequentialLR([StepLR(lr, 9), ExponentialLR(lr, 0.99)], [30]), "
    "ConstantLR(lr, 0.5, 41)])",
    "ChainedScheduler([SequentialLR([LinearLR(lr, 0.3), CosineAnnealingLR(lr, 80)], [30]), StepLR(lr, 70, 0.8)])",
    "ChainedScheduler([SequentialLR([LambdaLR(lr, lambda t: 1 / (1 + t)), StepLR(lr, 99)], [60]), StepLR(lr, 7, 0.9)])",
    "ChainedScheduler([SequentialLR([StepLR(lr, 9), StepLR(lr, 9)], [90]), LinearLR(lr, 0.5, 0.9, 200), "
    "SequentialLR([PolynomialLR(lr, 9), ExponentialLR(lr, 0.99), StepLR(lr, 50)], [50, 90])])",
    "ChainedScheduler([LambdaLR(lr, lambda t: 1 / (1 + t)), SequentialLR([LinearLR(lr), StepLR(lr, 9)], [60])])",
    f"SequentialLR([{_WARM}, CosineAnnealingLR(lr, 480)], milestones=[20])",
    f"SequentialLR([{_WARM}, CosineAnnealingLR(lr, 100, 1e-3), ExponentialLR(lr, 0.99)], [10, 250])",
    "SequentialLR([StepLR(lr, 3), ConstantLR(lr), PolynomialLR(lr, 50, 2.0), MultiStepLR(lr, [9, 0])], [5, 50, 99])",
    "SequentialLR([ExponentialLR(lr, 0.9), StepLR(lr, 3), LinearLR(lr)], [9, 9])",
    "SequentialLR([ExponentialLR(lr, 0.9), StepLR(lr, 3), LinearLR(lr), StepLR(lr, 4)], [50, 20, 90])",
    "SequentialLR([ExponentialLR(lr, 0.9), StepLR(lr, 3)], [0])",
    "SequentialLR([ExponentialLR(lr, 0.9), MultiplicativeLR(lr, lambda t: 0.99), LambdaLR(lr, lambda t: t)], [5, 99])",
    "SequentialLR([ExponentialLR(lr, 0.9), StepLR(lr, 2), MultiplicativeLR(lr, lambda t: 0.9), "
    "MultiplicativeLR(lr, lambda t: 0.99)], [5, 5, 20])",
    "SequentialLR([CosineAnnealingWarmRestarts(lr, 7), CosineAnnealingWarmRestarts(lr, 10, 2)], [50])",
    "SequentialLR([MultiplicativeLR(lr, lambda t: 0.9), CyclicLR(lr, 0.01, 0.2, 30), LinearLR(lr)], [20, 300])",
    "SequentialLR([LinearLR(0.04, 0.3), OneCycleLR(lr, 1.0, 400)], [100])",
    "SequentialLR([ChainedScheduler([LinearLR(lr, 0.1), StepLR(lr, 9)]), ExponentialLR(lr, 0.99)], [50])",
    "SequentialLR([ChainedScheduler([ExponentialLR(lr, 0.9), PolynomialLR(lr, 99, 2.0), "
    "MultiplicativeLR(lr, lambda t: 0.9)]), ExponentialLR(lr, 0.99)], [50])",
    "SequentialLR([ChainedScheduler([CosineAnnealingLR(lr, 60), ExponentialLR(lr, 0.99)]), StepLR(lr, 99)], [250])",
    "SequentialLR([ChainedScheduler([LambdaLR(lr, lambda t: 0.8**t), ExponentialLR(lr, 0.9)]), StepLR(lr, 9)], [50])",
    "SequentialLR([ChainedScheduler([CosineAnnealingLR(lr, 60, 0.01)]), StepLR(lr, 99)], [250])",
    "SequentialLR([SequentialLR([ExponentialLR(lr, 0.9), StepLR(lr, 9), LinearLR(lr)], [1, 50]), StepLR(lr, 9)], [90])",
    "SequentialLR([SequentialLR([CosineAnnealingLR(lr, 30, 0.02), StepLR(lr, 9)], [70]), StepLR(lr, 9)], [90])",
]

# What PyTorch refuses: the expression, and the argument that gradtx names.
REFUSED = [
    ("ConstantLR(lr, factor=1.5)", "factor"),
    ("ConstantLR(lr, factor=-0.1)", "factor"),
    ("LinearLR(lr, start_factor=0.0)", "start_factor"),
    ("LinearLR(lr, start_factor=1.5)", "start_factor"),
    ("LinearLR(lr, end_factor=-0.5)", "end_factor"),
    ("LinearLR(lr, end_factor=1.5)", "end_factor"),
    ("CosineAnnealingWarmRestarts(lr, 0)", "T_0"),
    ("CosineAnnealingWarmRestarts(lr, 2.5)", "T_0"),
    ("CosineAnnealingWarmRestarts(lr, 10, T_mult=0)", "T_mult"),
    ("CosineAnnealingWarmRestarts(lr, 10, T_mult=1.5)", "T_mult"),
    ("CosineAnnealingWarmRestarts(lr, 10, eta_min='0')", "eta_min"),
    ("CyclicLR(lr, 0.1, 0.2, mode='square')", "mode"),
    ("OneCycleLR(lr, 0.1)", "total_steps"),
    ("OneCycleLR(lr, 0.1, epochs=3)", "total_steps"),
    ("OneCycleLR(lr, 0.1, total_steps=0)", "total_steps"),
    ("OneCycleLR(lr, 0.1, total_steps=2.5)", "total_steps"),
    ("OneCycleLR(lr, 0.1, epochs=0, steps_per_epoch=3)", "epochs"),
    ("OneCycleLR(lr, 0.1, epochs=3, steps_per_epoch=-3)", "steps_per_epoch"),
    ("OneCycleLR(lr, 0.1, 10, pct_start=1.5)", "pct_start"),
    ("OneCycleLR(lr, 0.1, 10, pct_start=0.1)", "pct_start"),
    ("OneCycleLR(lr, 0.1, 10, anneal_strategy='square')", "anneal_strategy"),
    ("MultiplicativeLR(lr, 0.9)", "lr_lambda"),
    ("ChainedScheduler([])", "schedulers"),
    ("ChainedScheduler([0.1])", "schedulers"),
    ("SequentialLR([], [])", "schedulers"),
    ("SequentialLR([lambda t: 0.1], [])", "schedulers"),
    ("SequentialLR([LinearLR(lr), StepLR(lr, 3)], [])", "milestones"),
    ("SequentialLR([LinearLR(lr), StepLR(lr, 3)], [5, 10])", "milestones"),
]


def made(expression: str) -> tuple[Any, Any]:
    """PyTorch's optimizer and scheduler."""
    import torch
    from torch.optim import lr_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LR, momentum=0.9)

    def on_the_optimizer(name: str) -> Any:
        make: Any = getattr(lr_scheduler, name)
        if name == "ChainedScheduler":
            return make
        if name == "SequentialLR":
            return lambda *arguments, **more: make(optimizer, *arguments, **more)
        return lambda _, *arguments, **more: make(optimizer, *arguments, **more)

    return optimizer, eval(expression, {"lr": LR, **{name: on_the_optimizer(name) for name in NAMES}})


def run(expression: str) -> tuple[list[float], list[float]]:
    """The rate and the momentum of every step."""
    optimizer, scheduler = made(expression)
    rates, momenta = [], []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        try:
            scheduler.step()
        except (ValueError, ZeroDivisionError):
            break
    return rates, momenta


def signature(name: str) -> list[tuple[str, str, Any]]:
    """The parameters of a class but for the optimizer: name, kind, default."""
    from torch.optim import lr_scheduler

    parameters = inspect.signature(getattr(lr_scheduler, name)).parameters.values()
    return [(p.name, p.kind.name, p.default) for p in parameters if p.name != "optimizer"]


def refuse() -> None:
    """Raises unless PyTorch refuses what is listed in REFUSED."""
    for expression, _ in REFUSED:
        try:
            made(expression)
        except (ValueError, TypeError, ZeroDivisionError, AttributeError):
            continue
        raise AssertionError(f"PyTorch takes {expression}")


def main() -> None:
    import torch

    assert torch.__version__.startswith(VERSION), torch.__version__
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    refuse()
    defaults = json.dumps({name: signature(name) for name in NAMES}, default=lambda _: "required")
    table = np.full((len(CURVES) + len(MOMENTA), STEPS), np.nan)
    rows = [run(expression)[0] for expression in CURVES] + [run(expression)[1] for expression in MOMENTA]
    for numbers, row in zip(table, rows, strict=True):
        numbers[: len(row)] = row
    names = [*CURVES, *(f"{expression} momentum" for expression in MOMENTA)]
    np.savez_compressed(FILE, names=np.asarray(json.dumps(names)), rates=table, signatures=np.asarray(defaults))
    print(f"{len(table)} curves, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
