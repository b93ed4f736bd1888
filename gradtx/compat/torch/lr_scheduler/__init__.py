"""The learning rate schedulers of PyTorch 2.13 with the same names, defaults and results.

    from gradtx.compat.torch import lr_scheduler
    schedule = lr_scheduler.StepLR(0.1, step_size=30, gamma=0.5)

Each scheduler is a gradtx schedule: an immutable object, and a pure function of the step. It has the arguments of the
class of the same name in `torch.optim.lr_scheduler`, with the base learning rate in place of the optimizer.
`SequentialLR` and `ChainedScheduler` need neither. `schedule(t)` is the learning rate at the optimizer's step t,
counted from 0, in a PyTorch program that calls `scheduler.step()` after each `optimizer.step()`. It can be called for
any t, in any order.

All schedulers follow these rules:

- PyTorch computes each learning rate from the previous learning rate; here the same values are computed directly from
the step.
- Lengths are integers of at least 1, or arrays of integers. The derivative of a step function with respect to its
  length is 0.
- `last_epoch` must be -1: there is no state to resume, because the step is an argument.
- If PyTorch raises an error past the end of a schedule, here the schedule keeps its final value.

`ReduceLROnPlateau` is missing, because it is not a function of the step: use `gx.reduce_on_plateau`.
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
