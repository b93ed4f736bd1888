"""Measures the cost of a projection at the end of a chain: AdamW on a matrix whose rows stay on the simplex.

    python -m benchmarks.project
    python -m benchmarks.project --rows 1000 --columns 1000 --json out.json

Every line is one jitted step, `tx.update` and `apply_updates` with params and state donated, in float32:

adamw      `gx.adamw(1e-3)`
clip       followed by `clip_params(0.0, 1.0)`
center     followed by subtracting the mean of every row, which needs one sum and no search for a threshold. No
           projection of rows can cost less, because a row must be read before its first entry can be written.
simplex    followed by `project(projection_simplex, axis=-1)`
l1 ball    followed by `project(projection_l1_ball, axis=-1)`
optax      `optax.adamw(1e-3)`, then `optax.projections.projection_simplex` of every row, which sorts the row

The lines take turns; a ratio is the median time divided by the median time of `adamw`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tabulate import tabulate

import gradtx as gx
from benchmarks import report
from benchmarks.sampling import jitted_step, timed

QUICK = {"rows": 20, "columns": 30, "repeats": 2}

WARM_UP = 3


def centered(row: Any) -> Any:
    """Returns the row minus its mean."""
    return row - jnp.mean(row)


METHODS = {
    "adamw": gx.adamw(1e-3),
    "clip": gx.chain(gx.adamw(1e-3), gx.clip_params(0.0, 1.0)),
    "center": gx.chain(gx.adamw(1e-3), gx.project(centered, axis=-1)),
    "simplex": gx.chain(gx.adamw(1e-3), gx.project(gx.projection_simplex, axis=-1)),
    "l1 ball": gx.chain(gx.adamw(1e-3), gx.project(gx.projection_l1_ball, axis=-1)),
}


def optax_step() -> tuple[Any, Callable[..., Any]]:
    tx = optax.adamw(1e-3)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return jax.vmap(optax.projections.projection_simplex)(optax.apply_updates(params, updates)), state

    return tx, jax.jit(step, donate_argnums=(0, 1))


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Returns the samples of each method, in seconds."""
    shape = args.rows, args.columns
    params = jax.nn.softmax(jax.random.normal(jax.random.key(0), shape), axis=-1)
    grads = [jax.random.normal(jax.random.key(i), shape) for i in range(1, 5)]
    made = {name: (tx, jitted_step(gx, tx)) for name, tx in METHODS.items()} | {"optax": optax_step()}
    carry = {name: (jnp.copy(params), tx.init(params)) for name, (tx, _) in made.items()}
    samples: dict[str, list[float]] = {name: [] for name in made}
    for i in range(WARM_UP + args.repeats):
        for name in list(made)[:: -1 if i % 2 else 1]:
            seconds, carry[name] = timed(made[name][1], *carry[name], grads[i % len(grads)])
            if i >= WARM_UP:
                samples[name].append(seconds)
    ours, theirs = (carry[name][0] for name in ("simplex", "optax"))
    if not jnp.max(jnp.abs(ours - theirs)) < 1e-4:
        raise RuntimeError("gradtx and optax projected onto different points.")
    return samples


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.project", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000, help="rows of the matrix (%(default)s)")
    parser.add_argument("--columns", type=int, default=1000, help="its columns (%(default)s)")
    parser.add_argument("--repeats", type=int, default=30, help="samples of each method (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write all samples, in seconds, to FILE")
    parser.add_argument("--quick", action="store_true", help="a smoke test: other defaults, with few samples")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)
    args = parser.parse_args(argv)
    about = report.environment()
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n", flush=True)
    samples = measure(args)
    medians = {name: statistics.median(x) for name, x in samples.items()}
    rows = [[name, f"{1e3 * x:.3g}", f"{x / medians['adamw']:.2f}"] for name, x in medians.items()]
    print(tabulate(rows, headers=["", "ms", "over adamw"], tablefmt="github", disable_numparse=True))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"environment": about, "samples": samples}, file, indent=1)


if __name__ == "__main__":
    main()
