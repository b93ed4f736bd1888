"""PyTorch's optimizers, as PyTorch 2.13 computes them, under PyTorch's names and with its defaults.

    from gradtx.compat import torch
    tx = torch.AdamW(lr=1e-3, weight_decay=0.1)

Each is a function that takes the arguments of the class of that name in `torch.optim`, except `params`, and returns
an ordinary gradtx transformation, a chain of the library's rules. `lr` may be a number, an array or a schedule; so
may every other number, unless its docstring says otherwise. `foreach`, `fused`, `capturable` and `differentiable`
choose among implementations in PyTorch; here they are accepted and have no effect. `lr_scheduler` has PyTorch's
schedules, and `load_state` converts the state of an optimizer in the middle of a run.

Common to all of them:

- `weight_decay` is added to the gradient before the rule, unless the method decouples it. With the number 0 there
is no
  such link; with any other value, `update` needs params.
- `maximize` changes the sign of the gradient before anything else. - Arguments that PyTorch accepts although they
make no sense (`alpha` above 1 in RMSprop, `rho` of 1 in Adadelta) raise
  an error if the rule's limits exclude them.
- PyTorch treats a complex gradient as two real ones. Here the second moment is the moment of the modulus, and a
rule
  without a meaning for complex numbers raises an error.
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
