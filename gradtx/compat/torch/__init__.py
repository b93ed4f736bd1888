"""The optimizers of PyTorch 2.13 with the same names, defaults and results.

    from gradtx.compat import torch
    tx = torch.AdamW(lr=1e-3, weight_decay=0.1)

Each optimizer is a function with the arguments of the class of the same name in `torch.optim`, except `params`. It
returns an ordinary gradtx transformation, a chain. `lr` and all other numbers may also be arrays or schedules, unless
the docstring says otherwise. `lr_scheduler` has PyTorch's schedules, and `load_state` converts the state of an
optimizer in the middle of a run.

All optimizers follow these rules:

- `weight_decay * params` is added to the gradient before everything else, unless the method decouples the decay. With
  any `weight_decay` other than the number 0, `update` needs `params`.
- `maximize` changes the sign of the gradient before anything else.
- `foreach`, `fused`, `capturable` and `differentiable` choose among PyTorch's implementations. Here they are accepted
  and ignored.
- Some values that PyTorch accepts make no sense (`alpha` above 1 in RMSprop, `rho` of 1 in Adadelta). Here they raise
  an error.
- PyTorch treats a complex gradient as two real gradients. Here the second moment is the moving average of the squared
  absolute value, and a method that is not defined for complex numbers raises an error.
"""

from gradtx.compat.torch import lr_scheduler as lr_scheduler
from gradtx.compat.torch.adafactor import Adafactor
from gradtx.compat.torch.adam import Adam, Adamax, AdamW, NAdam, RAdam
from gradtx.compat.torch.elementwise import ASGD, SGD, Adadelta, Adagrad, RMSprop, Rprop
from gradtx.compat.torch.muon import Muon
from gradtx.compat.torch.state import group_labels as group_labels
from gradtx.compat.torch.state import load_state as load_state

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
]
