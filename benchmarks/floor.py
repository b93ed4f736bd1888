"""Measures how close the step of each method comes to the limit that the memory bandwidth sets.

    python -m benchmarks.floor
    python -m benchmarks.floor --method adamw yogi lion --entries 4194304

A step must read the gradients once, and read and write the parameters and the arrays of the state once. The floor is
the time to move so many bytes, at the bandwidth of adding 1 to an array in place, which is measured between the steps.
`of floor` is the floor divided by the median time of a step: 1 is the limit of the machine. The tree is one float32
leaf.

XLA's CPU backend compiles one loop for each result by default, so AdamW reads the gradient twice and both moments
twice. With `gradtx.cpu_flags()` XLA computes several results in one loop. The program measures both, each in a separate
process, because XLA reads its flags when it starts. On other backends it only measures the default.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from tabulate import tabulate
from tqdm import tqdm

import gradtx
from benchmarks import methods, report, trees
from benchmarks.sampling import WARM_UP, forget, timed

PROBE_EVERY = 3  # steps between two samples of the bandwidth


def least_bytes(params: Any, state: Any) -> int:
    """Returns the number of bytes that one step must read and write."""
    floating = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return 3 * gradtx.tree.nbytes(params) + 2 * gradtx.tree.nbytes(floating)


def measure(names: Sequence[str], entries: int, repeats: int) -> dict[str, dict[str, float]]:
    """Returns for each method the median time of a step in seconds, and the time that its bytes would take."""
    shapes, shared, found = trees.large(entries), methods.shared(), {}
    params, grads = trees.draw(shapes, seed=0), trees.draw(shapes, seed=1)
    probe = jax.jit(lambda x: x + 1, donate_argnums=0)
    for name in tqdm(names, file=sys.stderr, disable=None):
        tx, step = shared[name].make("gradtx", shapes), shared[name].step("gradtx", shapes)
        carry: Any = (jax.tree.map(jnp.copy, params), tx.init(params))
        array, steps, probes = jnp.ones(entries), [], []
        for i in range(WARM_UP + repeats):
            if i % PROBE_EVERY == 0:
                seconds, array = timed(probe, array)
                probes.append(seconds)
            seconds, carry = timed(step, *carry, grads)
            steps.append(seconds)
        bandwidth = 2 * array.nbytes / statistics.median(probes[1:])
        found[name] = {"step": statistics.median(steps[WARM_UP:]), "floor": least_bytes(params, carry[1]) / bandwidth}
        forget()
    return found


def in_a_process(args: argparse.Namespace, flags: str) -> dict[str, dict[str, float]]:
    """Runs `measure` in a new process with these XLA flags, and returns its result."""
    options = [f"--entries={args.entries}", f"--repeats={args.repeats}", "--here", "--method", *args.method]
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    command = [sys.executable, "-m", "benchmarks.floor", *options]
    return json.loads(subprocess.check_output(command, env=environment, text=True))


def table(default: dict[str, Any], flagged: dict[str, Any]) -> str:
    """Returns the times, and the fractions of the floor, in GitHub's table format."""
    rows = []
    for name, of in default.items():
        row = {"method": name, "step, ms": f"{1e3 * of['step']:.3g}", "of floor": f"{of['floor'] / of['step']:.2f}"}
        if name in flagged:
            other = flagged[name]
            row["flags: ms"] = f"{1e3 * other['step']:.3g}"
            row["flags: of floor"] = f"{other['floor'] / other['step']:.2f}"
            row["flags / default"] = f"{other['step'] / of['step']:.2f}"
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> None:
    methods.as_users_run()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=(__doc__ or "").split("\n")[0])
    add, shared = parser.add_argument, list(methods.shared())
    add("--method", nargs="+", metavar="NAME", choices=shared, default=shared, help="methods, as the sweep names them")
    add("--entries", type=int, default=2**24, help="entries of the leaf (%(default)s)")
    add("--repeats", type=int, default=15, help="samples of the step (%(default)s)")
    add("--json", type=pathlib.Path, metavar="FILE", help="also write the figures, in seconds, to FILE")
    add("--here", action="store_true", help=argparse.SUPPRESS)  # measure in this process, and print JSON
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(measure(args.method, args.entries, args.repeats)))
        return
    default = in_a_process(args, "")
    flagged = in_a_process(args, gradtx.cpu_flags()) if jax.default_backend() == "cpu" else {}
    print(table(default, flagged))
    if args.json:
        about = report.environment()
        args.json.write_text(json.dumps({"environment": about, "default": default, "flags": flagged}, indent=1))


if __name__ == "__main__":
    main()
