"""Records what the PyTorch lines of `docs/from_torch.md` compute, in `tests/recordings/torch_page.json`.

    python tests/record_torch_page.py

needs torch 2.13 and NumPy, and nothing of gradtx. It runs the page's training loop as it stands there, and each of
VARIANTS, the lines of the page's table, in float64. The final parameters are recorded.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
FILE = HERE / "recordings" / "torch_page.json"
PAGE = HERE.parent / "docs" / "from_torch.md"
VERSION = "2.13"
STEPS = 20

START = """
x = torch.tensor(np.random.RandomState(0).normal(size=(64, 3)))
y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=x.dtype)
w = torch.full((3,), 0.5, dtype=x.dtype, requires_grad=True)
b = torch.full((), 0.5, dtype=x.dtype, requires_grad=True)

def loss_fn(x, y):
    return ((x @ w + b - y) ** 2).mean()

def train(opt, steps=STEPS):
    for _ in range(steps):
        opt.zero_grad()
        loss_fn(x, y).backward()
        opt.step()
"""

VARIANTS = {
    "zero_grad, backward, step": "train(torch.optim.AdamW([w, b], lr=0.1))",
    "clip_grad_norm_": """
opt = torch.optim.SGD([w, b], lr=0.1)
for _ in range(STEPS):
    opt.zero_grad()
    loss_fn(x, y).backward()
    torch.nn.utils.clip_grad_norm_([w, b], 1.0)
    opt.step()
""",
    "CosineAnnealingLR": """
opt = torch.optim.AdamW([w, b], lr=0.1)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=STEPS)
for _ in range(STEPS):
    train(opt, 1)
    scheduler.step()
""",
    "param_groups lr": """
opt = torch.optim.AdamW([w, b], lr=0.1)
train(opt)
opt.param_groups[0]["lr"] = 0.01
train(opt)
""",
    "groups": """
train(torch.optim.AdamW([{"params": [w]}, {"params": [b], "weight_decay": 0}], lr=0.1, weight_decay=0.1))
""",
    "requires_grad": """
w.requires_grad = False
train(torch.optim.AdamW([b], lr=0.1))
""",
    "accumulate": """
opt = torch.optim.AdamW([w, b], lr=0.1)
for _ in range(STEPS):
    opt.zero_grad()
    for part in range(4):
        (loss_fn(x[16 * part : 16 * part + 16], y[16 * part : 16 * part + 16]) / 4).backward()
    opt.step()
""",
    "AveragedModel": """
model = torch.nn.ParameterList([w, b])
averaged = torch.optim.swa_utils.AveragedModel(model)
opt = torch.optim.AdamW([w, b], lr=0.1)
for _ in range(STEPS):
    train(opt, 1)
    averaged.update_parameters(model)
w, b = averaged.module
""",
    "LBFGS": """
exact = {"tolerance_grad": 1e-10, "tolerance_change": 1e-15}
opt = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe", **exact)

def closure():
    opt.zero_grad()
    loss = loss_fn(x, y)
    loss.backward()
    return loss

opt.step(closure)
""",
}


def result(code: str) -> dict[str, Any]:
    """The parameters that a program ends with."""
    import torch

    found: dict[str, Any] = {"torch": torch, "np": np, "STEPS": STEPS}
    exec(code, found)
    return {"w": found["w"].tolist(), "b": found["b"].item()}


def page_loop() -> str:
    """The training loop that the page shows."""
    loop = re.search(r"A whole training loop in PyTorch:\n\n```text\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert loop, f"{PAGE.name} shows no loop in PyTorch"
    return loop[1]


def main() -> None:
    import torch

    assert torch.__version__.startswith(VERSION), torch.__version__
    found = {"page": result(page_loop())} | {name: result(START + code) for name, code in VARIANTS.items()}
    FILE.write_text(json.dumps({"page_loop": page_loop(), "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
