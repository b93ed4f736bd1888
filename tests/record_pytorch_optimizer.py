"""Records trajectories of the package pytorch_optimizer in float64, in `tests/recordings/pytorch_optimizer.npz`.

    python tests/record_pytorch_optimizer.py

needs pytorch_optimizer 4.1, torch 2.13 and NumPy, and nothing of gradtx. What is recorded: for every row below, the
parameters after each step, for the gradient SLOPE * p + noise. The start and the noise are recorded with them. The
parameters are a matrix w and a vector b, one after the other. The package iterates Newton-Schulz in bfloat16; here it
does so in float64. SPlus has a square matrix: eigenvectors of singular factors are nobody's in particular.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "recordings" / "pytorch_optimizer.npz"
STEPS = 12
SLOPE = 0.5
SHAPES = {"w": (4, 6), "b": (6,)}
SQUARE = {"w": (5, 5), "b": (5,)}

# By name the class, what is given for all parameters, and whether there are groups of Muon's and others.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "adagc": ("AdaGC", {"lr": 0.1, "warmup_steps": 4, "lambda_abs": 3.0, "eps": 1e-12, "weight_decay": 0.0}),
    "adamuon": ("AdaMuon", {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-12}),
    "came": ("CAME", {"lr": 0.1, "betas": (0.8, 0.9, 0.95), "weight_decay": 0.1}),
    "fira": ("Fira", {"lr": 0.1, "betas": (0.0, 0.0), "eps": 1e-12}),
    "grams": ("Grams", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "grokfast": ("GrokFastAdamW", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.0, "normalize_lr": False}),
    "normuon": (
        "NorMuon",
        {"lr": 0.1, "momentum": 0.9, "beta2": 0.8, "eps": 1e-12, "update_scale": "match_rms", "nesterov": False},
    ),
    "orthograd": ("OrthoGrad", {"lr": 0.1, "momentum": 0.9}),
    "sgd_sai": ("SGDSaI", {"lr": 0.1, "weight_decay": 0.1}),
    "splus": ("SPlus", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.0, "inverse_steps": 4}),
    **{
        f"scion {norm}": ("SCION", {"lr": 0.1, "constraint": True, "scale": 2.0, "norm_type": norm})
        for norm in ("SPECTRAL", "SIGN", "COL", "ROW")
    },
}


def run(name: str, start: Any, noise: Any) -> Any:
    """The parameters after each step."""
    import pytorch_optimizer
    import torch

    kind, arguments = ROWS[name]
    cls = getattr(pytorch_optimizer, kind)
    shapes = SQUARE if name == "splus" else SHAPES
    w, b = (torch.nn.Parameter(torch.tensor(part)) for part in parts(start, shapes))
    if kind in ("AdaMuon", "NorMuon"):
        groups = [{"params": [w], "use_muon": True}, {"params": [b], "use_muon": False}]
        tx = cls(groups, adamw_lr=0.1, **arguments)
    elif kind == "Fira":
        low = {"rank": 2, "update_proj_gap": 99, "scale": 1.0, "projection_type": "std"}
        tx = cls([{"params": [w], **low}, {"params": [b]}], **arguments)
    elif kind == "SCION":
        norm = getattr(pytorch_optimizer.optimizer.scion.LMONorm, arguments["norm_type"])
        groups = [{"params": [w], "norm_type": norm}, {"params": [b], "norm_type": 5}]  # 5: vectors by their RMS
        tx = cls(groups, **{**arguments, "norm_type": norm})
    elif kind == "OrthoGrad":
        tx = cls(torch.optim.SGD([w, b], **arguments))
    else:
        tx = cls([w, b], **arguments)
    rows = []
    for row in noise:
        for p, part in zip((w, b), parts(row, shapes), strict=True):
            p.grad = SLOPE * p.detach() + torch.tensor(part)
        tx.step()
        rows.append(np.concatenate([p.detach().numpy().ravel() for p in (w, b)]))
    return np.stack(rows)


def parts(row: Any, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """The leaves of one row of numbers."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    cut = [row[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    return [x.reshape(shape) for x, shape in zip(cut, shapes.values(), strict=True)]


def main() -> None:
    """Writes the recording."""
    import torch
    from pytorch_optimizer.optimizer import scion
    from pytorch_optimizer.optimizer.muon import adamuon, base, normuon
    from pytorch_optimizer.optimizer.utils import matrix

    wide = functools.partial(matrix.zero_power_via_newton_schulz_5, dtype=torch.float64)
    for module in (adamuon, base, normuon, scion):
        module.zero_power_via_newton_schulz_5 = wide
    rng = np.random.default_rng(0)
    start = rng.normal(size=30)
    noise = rng.normal(size=(STEPS, start.size))
    rows = {name: run(name, start, noise) for name in ROWS}
    np.savez_compressed(FILE, start=start, noise=noise, **rows)


if __name__ == "__main__":
    main()
