"""Records trajectories of PyTorch's optimizers in float64, in `tests/recordings/torch.npz`.

    python tests/record_torch.py

needs torch 2.13 and NumPy, and nothing of gradtx. What is recorded: for every row below, the parameters after each
step, for the gradient SLOPE * p + noise; for ASGD the averaged parameters too. The parameters of a problem are one
row of numbers, its leaves one after the other; the start and the noise are recorded with them, and so are the
signatures of the classes. What is listed in REFUSED is seen to raise an error.

PyTorch's Muon iterates in bfloat16 whatever the parameters have. It is recorded like that, and, under keys that end in
" wide", with the iteration in float64.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import pathlib
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "recordings" / "torch.npz"
VERSION = "2.13"
STEPS = 30
SLOPE = 0.5

# What the parameters look like. Muon takes matrices, and Adafactor factors the last two axes of three.
PROBLEMS = {
    "": {"b": (3,), "w": (2, 2)},
    "Adafactor": {"b": (3,), "t": (2, 3, 2), "w": (3, 2)},
    "Muon": {"v": (2, 4), "w": (4, 3)},
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run: a class of torch.optim and its arguments."""

    name: str
    arguments: dict[str, Any]
    zero_first: bool = False
    """Whether the first gradient is zero."""
    decay: float = 1.0
    """The factor of `lr` from one step to the next."""

    @property
    def problem(self) -> str:
        return self.name if self.name in PROBLEMS else ""

    def __str__(self) -> str:
        text = f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"
        return text + " zero first" * self.zero_first + f" lr*{self.decay}^t" * (self.decay != 1)


def _rows(name: str, *arguments: dict[str, Any], lr: float) -> list[Row]:
    """The defaults, the given arguments (the first also from a zero gradient), and the last with a decaying rate."""
    given = [{"lr": lr, **more} for more in arguments]
    rows = [Row(name, {})] + [Row(name, more) for more in given] + [Row(name, given[0], zero_first=True)]
    return rows if name == "Rprop" else [*rows, Row(name, given[-1], decay=0.9)]


ROWS = [
    *_rows(
        "SGD",
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        lr=0.1,
    ),
    *_rows(
        "Adam",
        {"betas": (0.8, 0.95), "eps": 1e-3},
        {"amsgrad": True, "betas": (0.5, 0.7), "eps": 1e-2},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        lr=0.1,
    ),
    *_rows(
        "AdamW",
        {"betas": (0.8, 0.95), "eps": 1e-3},
        {"amsgrad": True, "weight_decay": 0.1, "maximize": True},
        lr=0.1,
    ),
    *_rows("Adamax", {"betas": (0.8, 0.9), "eps": 1e-2}, {"weight_decay": 0.1, "maximize": True}, lr=0.1),
    *_rows(
        "NAdam",
        {"betas": (0.8, 0.9), "eps": 1e-2, "momentum_decay": 0.5},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1},
        lr=0.1,
    ),
    *_rows(
        "RAdam",
        {"betas": (0.8, 0.9), "eps": 1e-2},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.9, 0.95)},
        lr=0.1,
    ),
    *_rows(
        "ASGD",
        {"lambd": 0.3, "alpha": 0.9, "t0": 10},
        {"lambd": 1.0, "t0": 0, "weight_decay": 0.1, "maximize": True},
        {"lambd": 0.3, "t0": -4.5},
        lr=0.1,
    ),
    *_rows("Rprop", {}, {"etas": (0.3, 1.5), "step_sizes": (0.02, 0.2)}, {"maximize": True}, lr=0.3),
    *_rows(
        "Adagrad",
        {"eps": 0.1, "initial_accumulator_value": 0.2},
        {"lr_decay": 0.3, "weight_decay": 0.1, "maximize": True},
        lr=0.3,
    ),
    *_rows(
        "RMSprop",
        {"alpha": 0.8, "eps": 1e-2},
        {"momentum": 0.9, "weight_decay": 0.1, "maximize": True},
        {"centered": True, "momentum": 0.5, "eps": 1e-3},
        lr=0.03,
    ),
    *_rows("Adadelta", {"rho": 0.8, "eps": 1e-2}, {"weight_decay": 0.1, "maximize": True}, lr=2.0),
    *_rows(
        "Adafactor",
        {"eps": (1e-2, 0.5), "beta2_decay": -0.5},
        {"eps": (0.5, 1e-3), "weight_decay": 0.1},
        {"d": 1.2, "weight_decay": 0.1, "maximize": True},
        lr=0.3,
    ),
    *_rows(
        "Muon",
        {"momentum": 0.8, "adjust_lr_fn": "match_rms_adamw", "eps": 1e-2},
        {"nesterov": False, "weight_decay": 0.3, "ns_steps": 3, "ns_coefficients": (3.0, -3.2, 1.2)},
        {"eps": 5.0, "adjust_lr_fn": "original"},
        lr=0.1,
    ),
]

# Arguments that PyTorch refuses, with the name that the error here must have.
REFUSED = [
    *((row.name, {"lr": -0.1}, "lr") for row in ROWS if not row.arguments),
    *((name, {"weight_decay": -0.1}, "weight_decay") for name in sorted({row.name for row in ROWS} - {"Rprop"})),
    *(
        (name, arguments, argument)
        for name in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")
        for arguments, argument in (
            ({"betas": (1.0, 0.999)}, r"betas\[0\]"),
            ({"betas": (0.9, -0.1)}, r"betas\[1\]"),
            ({"eps": -1e-8}, "eps"),
        )
    ),
    ("SGD", {"momentum": -0.9}, "momentum"),
    ("SGD", {"nesterov": True}, "nesterov"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov"),
    ("NAdam", {"momentum_decay": -1.0}, "momentum_decay"),
    ("Rprop", {"etas": (0.0, 1.2)}, r"etas\[0\]"),
    ("Rprop", {"etas": (0.5, 1.0)}, r"etas\[1\]"),
    ("Adagrad", {"lr_decay": -1.0}, "lr_decay"),
    ("Adagrad", {"initial_accumulator_value": -1.0}, "initial_accumulator_value"),
    ("Adagrad", {"eps": -1.0}, "eps"),
    ("RMSprop", {"alpha": -0.1}, "alpha"),
    ("RMSprop", {"eps": -0.1}, "eps"),
    ("RMSprop", {"momentum": -0.1}, "momentum"),
    ("Adadelta", {"rho": 1.1}, "rho"),
    ("Adadelta", {"eps": -0.1}, "eps"),
    ("Adafactor", {"beta2_decay": 0.8}, "beta2_decay"),
    ("Adafactor", {"eps": (-1.0, 1e-3)}, r"eps\[0\]"),
    ("Adafactor", {"eps": (None, -1e-3)}, r"eps\[1\]"),
    ("Adafactor", {"d": 0.9}, "d"),
    ("Muon", {"momentum": -0.1}, "momentum"),
    ("Muon", {"adjust_lr_fn": "other"}, "adjust_lr_fn"),
]


def problem(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The start and the noise of every step."""
    size = sum(int(np.prod(shape)) for shape in PROBLEMS[name].values())
    rng = np.random.RandomState(len(name))
    return rng.uniform(-2, 2, size), rng.uniform(-1, 1, (STEPS, size))


def run(row: Row) -> dict[str, np.ndarray]:
    """What PyTorch does."""
    import torch

    torch.set_default_dtype(torch.float64)
    start, noise = problem(row.problem)
    shapes = list(PROBLEMS[row.problem].values())

    def leaves(numbers: np.ndarray) -> list[Any]:
        parts = np.split(numbers, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        return [torch.tensor(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]

    def flat(tensors: list[Any]) -> np.ndarray:
        return np.concatenate([t.detach().numpy().ravel() for t in tensors])

    params = [torch.nn.Parameter(p) for p in leaves(start)]
    optimizer = getattr(torch.optim, row.name)(params, **row.arguments)
    found: dict[str, list[np.ndarray]] = {"": []}
    for t in range(STEPS):
        for p, n in zip(params, leaves(noise[t]), strict=True):
            p.grad = SLOPE * p.detach() + n
            if t == 0 and row.zero_first:
                p.grad = torch.zeros_like(p.grad)
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= row.decay
        found[""].append(flat(params))
        if row.name == "ASGD":
            found.setdefault(" ax", []).append(flat([optimizer.state[p]["ax"] for p in params]))
    return {key: np.stack(values) for key, values in found.items()}


def signature(name: str) -> list[tuple[str, str, Any]]:
    """The parameters of a class after `params`: name, kind, default."""
    import torch

    parameters = list(inspect.signature(getattr(torch.optim, name)).parameters.values())[1:]
    return [(p.name, p.kind.name, p.default) for p in parameters]


def refuse() -> None:
    """Raises unless PyTorch refuses what is listed in REFUSED."""
    import torch

    for name, arguments, _ in REFUSED:
        try:
            getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(2, 2))], **arguments)
        except ValueError:
            continue
        raise AssertionError(f"torch.optim.{name} takes {arguments}")


def main() -> None:
    import torch

    assert torch.__version__.startswith(VERSION), torch.__version__
    refuse()
    names = dict.fromkeys(row.name for row in ROWS)
    arrays = {"signatures": np.asarray(json.dumps({name: signature(name) for name in names}))}
    for name in PROBLEMS:
        arrays[f"start {name}"], arrays[f"noise {name}"] = problem(name)
    for row in ROWS:
        arrays |= {str(row) + key: numbers for key, numbers in run(row).items()}
    narrow = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = torch.Tensor.clone
    for row in ROWS:
        if row.name == "Muon":
            arrays |= {f"{row}{key} wide": numbers for key, numbers in run(row).items()}
    torch.Tensor.bfloat16 = narrow
    np.savez_compressed(FILE, **arrays)
    print(f"{len(arrays)} arrays, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
