"""PyTorch's optimizers, as PyTorch 2.13 computes them, under PyTorch's names and with its defaults.

    from gradtx.compat import torch
    tx = torch.AdamW(lr=1e-3, weight_decay=0.1)

Each is a function that takes the arguments of the class in `torch.optim` of that name, except `params`, and returns
an ordinary gradtx transformation, a chain of the library's rules. `lr` may be a number, an array or a schedule;
so may every other number, unless its docstring says otherwise. `foreach`, `fused`, `capturable` and `differentiable`
choose among implementations there; here they are accepted and change nothing. `lr_scheduler` has PyTorch's schedules,
and `load_state` takes over the state of an optimizer in the middle of a run.

What all have in common:

- `weight_decay` is added to the gradient, before the rule, unless the method decouples it. The number 0 leaves that
  link out; with any other, `update` needs params.
- `maximize` turns the gradient's sign before anything else.
- Arguments that PyTorch takes although they lead nowhere (`alpha` above 1 in RMSprop, `rho` of 1 in Adadelta) are
  refused where the rule refuses them.
- PyTorch computes with a complex gradient as with two real ones. Here the second moment is that of the modulus, and
  a rule that has no meaning for complex numbers refuses them.
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
