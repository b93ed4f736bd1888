"""Records trajectories of pytorch_optimizer in float64, in `tests/recordings/matrix_optimizers.json`.

    python tests/record_matrix_optimizers.py

needs torch 2.13 and pytorch_optimizer 4.1, and nothing of gradtx. What is recorded: the sum of the updates of a weight
that begins at zero after each step, for the gradients that come with them. Kron's random matrices are recorded, too.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np

FILE = pathlib.Path(__file__).parent / "recordings" / "matrix_optimizers.json"
STEPS = 8
SHAPES = {"SOAP": (4, 4), "Shampoo": (4, 4), "Kron": (4, 3)}
ARGUMENTS = {
    "SOAP": {
        "lr": 1.0, "betas": (0.8, 0.9), "shampoo_beta": 0.7, "eps": 1e-14, "precondition_frequency": 3,
        "weight_decay": 0.0,
    },
    "Shampoo": {"lr": 1.0, "momentum": 0.0, "matrix_eps": 1e-13},
    "Kron": {"lr": 1.0, "momentum": 0.8, "pre_conditioner_update_probability": 1.0},
}  # fmt: skip


def recorded(name: str) -> dict[str, list]:
    """The gradients, the random matrices and the weights of a run."""
    import pytorch_optimizer
    import torch

    settings = ARGUMENTS[name] | ({"precondition_dtype": torch.float64} if name == "Kron" else {})
    rng = np.random.default_rng(len(name))
    grads, noises = rng.normal(size=(2, STEPS, *SHAPES[name]))
    weight = torch.nn.Parameter(torch.zeros(SHAPES[name], dtype=torch.float64))
    tx, drawn = getattr(pytorch_optimizer, name)([weight], **settings), iter(noises)
    torch.randn_like = lambda x, **_: torch.tensor(next(drawn))
    weights = []
    for g in grads:
        weight.grad = torch.tensor(g)
        tx.step()
        weights.append(weight.detach().numpy().tolist())
    return {"grads": grads.tolist(), "noises": noises.tolist(), "weights": weights}


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: recorded(name) for name in ARGUMENTS}) + "\n")
