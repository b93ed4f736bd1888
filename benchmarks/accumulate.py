"""Measures the cost of gradient accumulation in gradtx and optax, on a tree of many leaves, in one process.

    python -m benchmarks.accumulate
    python -m benchmarks.accumulate --leaves 161 --every 8 --json out.json

Both libraries wrap AdamW: `gradtx.accumulate(gradtx.adamw(1e-3), 4)` and `optax.MultiSteps(optax.adamw(1e-3), 4)`. The
libraries take turns, and a ratio is a ratio of medians, as the docstring of `benchmarks/sampling.py` explains; below 1,
gradtx is faster. Arrays are float32, with 64 entries per leaf.

trace, lower, compile, total
          The stages of `jax.jit(step, ...)` from shapes alone, and their sum, where `step` is `tx.update` and
          `apply_updates`, (params, state, grads) to (params, state), with params and state donated.
eager     `tx.update(grads, state, params)` outside `jax.jit`, with all caches of JAX in memory warm.
step      One call of `jax.jit(step, ...)`.

The update that ends a cycle does more work than the other updates. So a sample of `eager` and of `step` is a mean over
a whole cycle, with one update for each micro-batch. The program waits for the result of each update.

Outside of `jax.jit`, `optax.MultiSteps` compiles at every update, because the functions that it passes to `lax.cond`
are new each time. The persistent compilation cache, which would avoid a part of this work, is off.

Before steps are timed, both libraries run one cycle; the benchmark raises an error if their parameters differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tabulate import tabulate

import gradtx
from benchmarks import report, trees
from benchmarks.sampling import LIBRARIES, Samples, check_agreement, jitted_step, sample_stages, timed, turn

QUICK = {"leaves": 20, "repeats": 2, "eager": 1, "compiles": 1}

WARM_UP = 1  # cycles; the first calls compile

COLUMNS = ("trace", "lower", "compile", "total", "eager", "step")


def sample_cycles(call: dict[str, Callable[[Any], Any]], carry: dict[str, Any], every: int, repeats: int) -> Samples:
    """Seconds per update of each library, means over whole cycles; `call` takes and returns what is in `carry`."""
    samples: Samples = {name: [] for name in call}
    for i in range(repeats):
        for name in turn(i):
            total = 0.0
            for _ in range(every):
                seconds, carry[name] = timed(call[name], carry[name])
                total += seconds
            samples[name].append(total / every)
    return samples


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Returns all samples, in seconds."""
    txs = {
        "gradtx": gradtx.accumulate(gradtx.adamw(1e-3), args.every),
        "optax": optax.MultiSteps(optax.adamw(1e-3), args.every),
    }
    shapes = trees.small(args.leaves)
    _say("compiling")
    make = {name: partial(jitted_step, LIBRARIES[name], tx) for name, tx in txs.items()}
    arguments = {name: (shapes, jax.eval_shape(tx.init, shapes), shapes) for name, tx in txs.items()}
    samples, _ = sample_stages(make, arguments, args.compiles, args.compiles)
    for of in samples.values():
        of["total"] = of.pop("first step")

    _say("jitted steps")
    params, grads = trees.draw(shapes, seed=0), trees.draw(shapes, seed=1)
    steps = {name: jitted_step(LIBRARIES[name], tx) for name, tx in txs.items()}
    call = {name: lambda carry, step=step: step(*carry, grads) for name, step in steps.items()}
    carry: dict[str, Any] = {name: (jax.tree.map(jnp.copy, params), tx.init(params)) for name, tx in txs.items()}
    sample_cycles(call, carry, args.every, WARM_UP)
    check_agreement(params, *(carry[name][0] for name in LIBRARIES))
    for name, seconds in sample_cycles(call, carry, args.every, args.repeats).items():
        samples[name]["step"] = seconds

    _say("eager updates")
    call = {name: lambda state, tx=tx: tx.update(grads, state, params)[1] for name, tx in txs.items()}
    carry = {name: tx.init(params) for name, tx in txs.items()}
    sample_cycles(call, carry, args.every, WARM_UP)
    for name, seconds in sample_cycles(call, carry, args.every, args.eager).items():
        samples[name]["eager"] = seconds

    return {
        "leaves": args.leaves,
        "every": args.every,
        "parameters": gradtx.tree.size(shapes),
        "median": {name: {key: statistics.median(x) for key, x in of.items()} for name, of in samples.items()},
        "samples": samples,
    }


def _say(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


def table(result: dict[str, Any]) -> str:
    """Returns the ratios, and the medians that they are computed from, in GitHub's table format."""
    ours, theirs = (result["median"][name] for name in LIBRARIES)
    rows = [
        ["ratio", *(f"{ours[key] / theirs[key]:.3f}" for key in COLUMNS)],
        *([f"{name}, ms", *(f"{1e3 * of[key]:.3g}" for key in COLUMNS)] for name, of in result["median"].items()),
    ]
    return tabulate(rows, headers=["", *COLUMNS], tablefmt="github", disable_numparse=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accumulate", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--leaves", type=int, default=1000, help="leaves of the tree (%(default)s)")
    add("--every", type=int, default=4, help="micro-batches to a step (%(default)s)")
    add("--compiles", type=int, default=3, help="samples of tracing, lowering and compiling (%(default)s)")
    add("--repeats", type=int, default=20, help="cycles of the jitted step (%(default)s)")
    add("--eager", type=int, default=2, help="cycles of the eager update (%(default)s)")
    add("--json", metavar="FILE", help="also write all samples and medians, in seconds, to FILE")
    add("--quick", action="store_true", help="a smoke test: other defaults, with few samples of few leaves")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)  # so that an option that is given still counts
    args = parser.parse_args(argv)
    if min(args.leaves, args.every, args.compiles, args.repeats, args.eager) < 1:
        parser.error("counts must be at least 1")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    jax.config.update("jax_enable_compilation_cache", False)
    about = report.environment()
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n", flush=True)
    result = measure(args)
    print(f"{args.leaves} leaves, a step for every {args.every} updates; a ratio is gradtx over optax\n")
    print(table(result))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"environment": about, "result": result}, file, indent=1)


if __name__ == "__main__":
    main()
