"""PyTorch's learning rate schedulers, as PyTorch 2.13 computes them, under PyTorch's names and with its defaults.

    from gradtx.compat.torch import lr_scheduler
    schedule = lr_scheduler.StepLR(0.1, step_size=30, gamma=0.5)

Each is a gradtx schedule: a frozen value, and a pure function of the step. It takes the arguments of the class in
`torch.optim.lr_scheduler` of that name, with the base rate where PyTorch has the optimizer; a list of schedulers needs
no optimizer beside it. `schedule(t)` is the rate of the optimizer's step t, counted from 0, where each
`optimizer.step()` is followed by a `scheduler.step()`, for any t, without a step before it.

What all have in common:

- PyTorch goes from one rate to the next; here are the closed forms of what it computes, where that is not the same.
- Lengths are whole numbers, at least 1, or arrays of such. A step function has the derivative 0 by them.
- `last_epoch` must be -1: there is no state to resume, the step is the argument.
- Where PyTorch raises past the end, the last value holds.

`ReduceLROnPlateau` is no function of the step, and not here.
"""

from gradtx.compat.torch.lr_scheduler.composed import ChainedScheduler, SequentialLR
from gradtx.compat.torch.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from gradtx.compat.torch.lr_scheduler.cycles import CycledMomentum, CyclicLR, OneCycleLR
from gradtx.compat.torch.lr_scheduler.factors import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CycledMomentum",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "SequentialLR",
    "StepLR",
]
