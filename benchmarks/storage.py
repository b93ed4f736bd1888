"""Measures the cost of storage formats: time, memory and bytes of a jitted AdamW step, compared with a float32 state.

    python -m benchmarks.storage
    python -m benchmarks.storage --json out.json

The tree has three float32 leaves of a million entries each. A step is `tx.update` and `apply_updates`, with the
parameters and the state donated. The formats take turns. A time is the median over the rounds, as a ratio to the time
with a float32 state in the same run. `quickest` is the ratio of the shortest times, which a busy machine distorts less.

bytes  Bytes of the state per parameter, from `gx.describe`.
temp   Bytes of temporary memory of the compiled step, per entry of the largest leaf. A float32 copy of one state array
       would add 4. The first line shows the figure for a float32 state.
error  Relative root mean square error of converting a normally distributed array to the format and back once, with the
       signed format that is used for `mu`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from tabulate import tabulate

import gradtx as gx
from benchmarks.sampling import jitted_step, timed

SHAPES = ((1000, 1024), (1024, 1024), (1024, 1000))
FORMATS: tuple[Any, ...] = (
    None,
    "bfloat16",
    gx.storage.stochastic("bfloat16"),
    "float16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int8",
    "int4",
    "bf16+8",
    "bf16+16",
)


def error(form: Any) -> float:
    """Returns the relative error of converting an array to a format and back."""
    x = jax.random.normal(jax.random.key(0), (256, 1024))
    tx = gx.stored(gx.trace(0.0), form)
    _, state = tx.update(x, tx.init(x))
    return float(jnp.linalg.norm(jnp.asarray(state.trace) - x) / jnp.linalg.norm(x))


def measured(formats: Sequence[Any], shapes: Sequence[tuple[int, ...]], rounds: int) -> list[dict[str, Any]]:
    """Measures each format, and returns one row for each."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    grads = {f"w{i}": jax.random.normal(key, shape) for i, (key, shape) in enumerate(zip(keys, shapes, strict=True))}
    size = max(g.size for g in grads.values())
    total = sum(g.size for g in grads.values())
    rows, steps, carry = [], [], []
    for form in formats:
        tx = gx.adamw(1e-3) if form is None else gx.stored(gx.adamw(1e-3), form)
        params = jax.tree.map(jnp.zeros_like, grads)
        state = tx.init(params)
        step = jitted_step(gx, tx).lower(params, state, grads).compile()
        rows.append(
            {
                "format": "float32" if form is None else str(form),
                "bytes": round(gx.describe(tx, params).nbytes / total, 3),
                "temp": round(step.memory_analysis().temp_size_in_bytes / size, 2),
                "error": 0.0 if form is None else error(form),
            }
        )
        steps.append(step)
        carry.append((params, state))
    samples: list[list[float]] = [[] for _ in formats]
    for _ in range(rounds):
        for i, step in enumerate(steps):
            seconds, carry[i] = timed(step, *carry[i], grads)
            samples[i].append(seconds)
    for row, taken in zip(rows, samples, strict=True):
        row["ms"] = 1e3 * statistics.median(taken)
        row["ratio"] = round(statistics.median(taken) / statistics.median(samples[0]), 2)
        row["quickest"] = round(min(taken) / min(samples[0]), 2)
    return rows


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="samples of each format (default 31)")
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    rows = measured(FORMATS, SHAPES, options.rounds)
    print(tabulate(rows, headers="keys", floatfmt=".3g"))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
