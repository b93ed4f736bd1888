"""Compares the time of AdamW's step with PyTorch's fused AdamW, on the CPU and on the same tree of parameters.

    pip install torch && python -m benchmarks.against_torch

Both update ResNet-50's 161 leaves in place: gradtx in a jitted step with parameters and state donated, PyTorch with
`torch.optim.AdamW(fused=True)`. Both use the same number of threads. The two libraries take turns; a ratio is the
median time of gradtx divided by the median time of PyTorch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks import report, trees
from benchmarks.sampling import WARM_UP, jitted_step, timed


def main(argv: Sequence[str] | None = None) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads of PyTorch would spin while gradtx works
    import torch  # pyright: ignore[reportMissingImports]  (no dependency of the project)

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=30, help="samples of the step (%(default)s)")
    repeats = parser.parse_args(argv).repeats
    params, grads = trees.draw(trees.resnet50(), seed=0), trees.draw(trees.resnet50(), seed=1)
    tx = gradtx.adamw(1e-3)
    step, carry = jitted_step(gradtx, tx), jax.tree.map(jnp.copy, (params, tx.init(params)))
    tensors = [torch.nn.Parameter(torch.from_numpy(np.array(p))) for p in jax.tree.leaves(params)]
    for tensor, g in zip(tensors, jax.tree.leaves(grads), strict=True):
        tensor.grad = torch.from_numpy(np.array(g))
    theirs = torch.optim.AdamW(tensors, lr=1e-3, weight_decay=1e-4, fused=True)
    samples: dict[str, list[float]] = {"gradtx": [], "torch": []}
    for i in range(WARM_UP + repeats):
        seconds, carry = timed(step, *carry, grads)
        start = time.perf_counter()
        theirs.step()
        if i >= WARM_UP:
            samples["gradtx"].append(seconds)
            samples["torch"].append(time.perf_counter() - start)
    apart = max(
        float(np.abs(np.asarray(p) - t.detach().numpy()).max())
        for p, t in zip(jax.tree.leaves(carry[0]), tensors, strict=True)
    )
    ours, fused = (statistics.median(samples[name]) for name in samples)
    about = report.environment() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"gradtx {1e3 * ours:.3g} ms, torch {1e3 * fused:.3g} ms: {ours / fused:.2f}; at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
