"""Records states of PyTorch's optimizers in the middle of a run, in `tests/recordings/torch_states.npz`.

    python tests/record_torch_states.py

needs torch 2.13 and NumPy, and nothing of gradtx. For every row the `state_dict()` after HALF steps and the parameters
then and at the end are recorded, in float64, for the gradient SLOPE * p + noise. Muon iterates in float64 here. The row
with two groups gives the first parameter to one group and the others to the next, with another learning rate.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "recordings" / "torch_states.npz"
VERSION = "2.13"
HALF, STEPS = 5, 10
SLOPE = 0.5

SHAPES = {"b": (3,), "t": (2, 3, 2), "w": (3, 2)}
"""The parameters in the order in which the optimizer gets them, by names like those of a model."""

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    "Adam": ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    "Adam amsgrad": ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "amsgrad": True, "maximize": True}),
    "AdamW": ("AdamW", {"lr": 0.1}),
    "AdamW groups": ("AdamW", {"lr": 0.1}),
    "Adamax": ("Adamax", {"lr": 0.1, "betas": (0.8, 0.9)}),
    "NAdam": ("NAdam", {"lr": 0.1, "momentum_decay": 0.1}),
    "RAdam": ("RAdam", {"lr": 0.1, "betas": (0.8, 0.9)}),
    "ASGD": ("ASGD", {"lr": 0.1, "lambd": 0.3, "t0": 2}),
    "Rprop": ("Rprop", {"lr": 0.1}),
    "Adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.3, "initial_accumulator_value": 0.1}),
    "RMSprop": ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True}),
    "RMSprop plain": ("RMSprop", {"lr": 0.1}),
    "Adadelta": ("Adadelta", {"lr": 1.0}),
    "Adafactor": ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}),
    "Muon": ("Muon", {"lr": 0.1, "momentum": 0.8}),
}
SECOND_RATE = 0.03


def shapes(row: str) -> dict[str, tuple[int, ...]]:
    """The parameters of a row: Muon takes matrices alone."""
    return {"w": SHAPES["w"]} if row == "Muon" else SHAPES


def problem(row: str) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """The first parameters, and the noise of every step."""
    rng = np.random.RandomState(0)
    start = {name: rng.uniform(-2, 2, shape) for name, shape in shapes(row).items()}
    return start, [{name: rng.uniform(-1, 1, shape) for name, shape in shapes(row).items()} for _ in range(STEPS)]


def run(row: str) -> dict[str, np.ndarray]:
    """What PyTorch does."""
    import torch

    kind, arguments = ROWS[row]
    start, noise = problem(row)
    params = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start.items()}
    given: Any = list(params.items())
    if row.endswith("groups"):
        given = [{"params": given[:1]}, {"params": given[1:], "lr": SECOND_RATE}]
    optimizer = getattr(torch.optim, kind)(given, **arguments)
    found = {}
    for t in range(STEPS):
        if t == HALF:
            state = optimizer.state_dict()
            groups = [{k: g[k] for k in ("params", "param_names", "lr")} for g in state["param_groups"]]
            found["param_groups"] = np.asarray(json.dumps(groups))
            for i, entries in state["state"].items():
                found |= {f"{i} {key}": x.detach().numpy().copy() for key, x in entries.items()}
            found |= {f"half {name}": p.detach().numpy().copy() for name, p in params.items()}
        for name, p in params.items():
            p.grad = SLOPE * p.detach() + torch.tensor(noise[t][name])
        optimizer.step()
    return found | {f"end {name}": p.detach().numpy().copy() for name, p in params.items()}


def main() -> None:
    import torch

    assert torch.__version__.startswith(VERSION), torch.__version__
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone  # what Muon rounds to
    arrays = {f"{row}/{key}": x for row in ROWS for key, x in run(row).items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{len(arrays)} arrays, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
