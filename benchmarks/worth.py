"""Measures how many steps methods for matrices need to reach the final loss of AdamW.

    python -m benchmarks.worth
    python -m benchmarks.worth --tasks digits --methods soap muon --steps 400
    python -m benchmarks.worth --quick

The tasks are the tasks of `benchmarks.storage_runs`. In each run the learning rate decays to zero along a cosine; the
score of a run is the loss on held-out data after the last step. AdamW runs for `--steps` steps. Each other method runs
for larger and larger fractions of these steps, until its score is as good as AdamW's score. The table has this
fraction, and the score for each fraction that was tried. Every score, AdamW's included, is for the best learning rate
of the method's grid, and is the mean over three seeds, which determine the initial parameters and the batches. All
learning rates and seeds of a method run at once (`vmap`). A star marks a best learning rate that is the lowest or the
highest of the grid.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from tabulate import tabulate

import gradtx as gx
from benchmarks.storage_runs import TASKS, Task, first, loss

SEEDS = 3
FRACTIONS = (0.5, 0.625, 0.75, 0.875, 1.0)
METHODS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "adamw": (lambda rate: gx.adamw(rate, weight_decay=0.01), 8e-3),
    "soap": (lambda rate: gx.soap(rate, weight_decay=0.01), 8e-3),
    "shampoo": (lambda rate: gx.shampoo(rate, weight_decay=0.01), 8e-3),
    "kron": (lambda rate: gx.kron(rate, weight_decay=0.01), 4e-3),
    "splus": (lambda rate: gx.splus(rate, weight_decay=0.01), 1e-1),
    "muon": (lambda rate: gx.muon(rate, weight_decay=0.01, adam_learning_rate=0.2 * rate), 4e-2),
    "normuon": (lambda rate: gx.normuon(rate, weight_decay=0.01), 8e-3),
    "adamuon": (lambda rate: gx.adamuon(rate, weight_decay=0.01), 8e-3),
}
"""Each method of a learning rate, and the middle of its grid."""
GRID = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def run(task: Task, make: Callable[[Any], Any], batch: int, rate: Any, seed: Any, steps: Any) -> Any:
    """Returns the loss on held-out data after `steps` steps, which may be traced, so all budgets share one program."""
    x, y = map(jnp.asarray, task.train)
    key = jax.random.key(seed)
    params = first(task, key)

    def step(t: Any, carry: Any) -> Any:
        params, state = carry
        picked = jax.random.randint(jax.random.fold_in(key, t), (batch,), 0, len(x))
        grads = jax.grad(functools.partial(loss, task))(params, x[picked], y[picked])
        decayed = rate * (1 + jnp.cos(math.pi * t / steps)) / 2
        updates, state = make(decayed).update(grads, state, params)
        return gx.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, steps, step, (params, make(rate).init(params)))
    return loss(task, params, *(jnp.asarray(part[:2000]) for part in task.test))


def scores(task: Task, name: str, batch: int) -> Callable[[int], tuple[float, float, bool]]:
    """Returns the best mean loss over the seeds, its learning rate, and whether that rate is an end of the grid."""
    make, middle = METHODS[name]
    rates = jnp.asarray([middle * factor for factor in GRID])
    over_seeds = jax.vmap(functools.partial(run, task, make, batch), (None, 0, None))
    every = jax.jit(jax.vmap(over_seeds, (0, None, None)))

    def score(steps: int) -> tuple[float, float, bool]:
        means = jnp.mean(every(rates, jnp.arange(SEEDS), jnp.asarray(steps)), axis=1)
        best = int(jnp.argmin(jnp.where(jnp.isfinite(means), means, jnp.inf)))
        return float(means[best]), float(rates[best]), best in (0, len(GRID) - 1)

    return score


def row(task: Task, name: str, target: float, steps: int, batch: int) -> dict[str, Any]:
    """Returns the row of the table for a method: the fraction of AdamW's steps that it needs to reach the target."""
    start, score, reached, tried = time.perf_counter(), scores(task, name, batch), None, []
    for fraction in FRACTIONS:
        value, rate, at_end = score(round(fraction * steps))
        tried.append(f"{fraction:g}: {value:.4f}{'*' * at_end} ({rate:.2g})")
        if value <= target:
            reached = fraction
            break
    found = "more than 1" if reached is None else f"{reached:g}"
    return {"method": name, "steps of AdamW's": found, "scores (rate)": ", ".join(tried), "s": _since(start)}


def _since(start: float) -> int:
    return round(time.perf_counter() - start)


def main(arguments: Sequence[str]) -> None:
    """Prints a row as soon as it is there, and a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="AdamW's steps (default 200)")
    parser.add_argument("--batch", type=int, default=32, help="examples of each step (default 32)")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS)[1:], choices=list(METHODS)[1:])
    parser.add_argument("--quick", action="store_true", help="a few steps of one method on one task, as a smoke test")
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.steps, options.tasks, options.methods = 8, ["digits"], ["muon"]
    found: dict[str, list[dict[str, Any]]] = {}
    for task_name in options.tasks:
        task, start = TASKS[task_name](), time.perf_counter()
        target, rate, at_end = scores(task, "adamw", options.batch)(options.steps)
        shown = f"1: {target:.4f}{'*' * at_end} ({rate:.2g})"
        rows = [{"method": "adamw", "steps of AdamW's": "1", "scores (rate)": shown, "s": _since(start)}]
        print(task_name, *rows[0].values(), flush=True)
        for name in options.methods:
            rows.append(row(task, name, target, options.steps, options.batch))
            print(task_name, *rows[-1].values(), flush=True)
        found[task_name] = rows
        print(f"\n{task_name}, {options.steps} steps\n\n{tabulate(rows, headers='keys', tablefmt='github')}\n")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
