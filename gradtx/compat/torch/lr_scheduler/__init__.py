"""PyTorch's learning rate schedulers, as PyTorch 2.13 computes them, under PyTorch's names and with its defaults.

    from gradtx.compat.torch import lr_scheduler
    schedule = lr_scheduler.StepLR(0.1, step_size=30, gamma=0.5)

Each is a gradtx schedule: a frozen value, and a pure function of the step. It takes the arguments of the class of that
name in `torch.optim.lr_scheduler`, with the base learning rate in place of the optimizer; the schedulers made of a list
of others need no optimizer at all. `schedule(t)` is the learning rate of the optimizer's step t, counted from 0, if
each `optimizer.step()` is followed by a `scheduler.step()`. It can be called for any t, without the steps before it.

All of them share these rules:

- PyTorch computes each learning rate from the one before it; here the closed forms of the same values are used.
- Lengths are whole numbers of at least 1, or arrays of such. The derivative of a step function with respect to its
  length is 0.
- `last_epoch` must be -1: there is no state to resume, because the step is an argument.
- Where PyTorch raises an error past the end, the last value holds.

`ReduceLROnPlateau` is missing, because it is not a function of the step: take `gx.reduce_on_plateau`.
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
