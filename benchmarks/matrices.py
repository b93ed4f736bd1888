"""Measures the cost of methods for matrices: compiling them for many matrices, and their steps compared with AdamW's.

    python -m benchmarks.matrices
    python -m benchmarks.matrices --parts compile --methods muon soap
    python -m benchmarks.matrices --quick

compile   For `--leaves` matrices of 64 x 64: seconds to trace and lower, seconds to compile, and processor seconds to
          compile. `of 5 s` is the sum of the first two, divided by 5 seconds, a time that users accept.
squares   For `--squares` matrices of 512 x 512: ratios of Muon to optax's Muon, for the step and its compilation.
step      For GPT-2 of width 256: ratio to AdamW's step of a step that does not recompute roots or bases. `products` is
          the number of GFLOP of the method's matrix products in this step. `floor` is the time of these products at the
          speed of one large product, divided by the time of AdamW's step; no version of the method could be faster on
          this machine.

A method and the method that it is compared with take turns; a figure is a ratio of medians. To time steps that do not
recompute roots or bases, `interval` is longer than the run, and the first steps are not timed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tabulate import tabulate

import gradtx as gx
from benchmarks import trees
from benchmarks.sampling import WARM_UP, forget, jitted_step, timed

METHODS = {
    "adamw": "adamw(1e-3)",
    "muon": "muon(1e-3)",
    "normuon": "normuon(1e-3)",
    "adamuon": "adamuon(1e-3)",
    "dion": "dion(1e-3)",
    "scion": "scion(1e-3)",
    "soap": "soap(1e-3, interval=10000)",
    "shampoo": "shampoo(1e-3, interval=10000)",
    "splus": "splus(1e-3, interval=10000)",
    "kron": "kron(1e-3)",
    "adam_mini": "adam_mini(1e-3)",
    "came": "came(1e-3)",
    "apollo": "apollo(1e-3)",
    "fira": "fira(1e-3)",
    "optax muon": "",
}
"""What is measured; `kron` renews its factors by chance, less and less often, and so some of its steps do."""

SIDES = {"soap": 6, "shampoo": 4}
"""How many products of m x n with m x m, and with n x n, a step takes, of two flops an entry."""


def made(name: str) -> tuple[Any, Any]:
    """Returns the library that has the method, and the transformation."""
    if name == "optax muon":
        return optax, optax.contrib.muon(1e-3)
    return gx, eval(METHODS[name], {name: getattr(gx, name)})


def squares(count: int, side: int) -> trees.ShapeTree:
    """Matrices of one shape, a leaf each."""
    return {f"layer_{i:03}": {"kernel": jax.ShapeDtypeStruct((side, side), jnp.float32)} for i in range(count)}


def first_step(name: str, shapes: Any) -> tuple[float, float, float]:
    """Seconds to trace and lower, seconds to compile, and seconds of processor time in that."""
    forget()
    lib, tx = made(name)
    state = jax.eval_shape(tx.init, shapes)
    lower, lowered = timed(lambda: jitted_step(lib, tx).lower(shapes, state, shapes))
    start = time.process_time()
    compiling, _ = timed(lowered.compile)
    return lower, compiling, time.process_time() - start


def steps_in_turns(names: Sequence[str], shapes: Any, repeats: int) -> list[float]:
    """Returns the median time of a step of each method in seconds; the methods take turns."""
    params, grads = trees.draw(shapes, 0), trees.draw(shapes, 1)
    steps, carry, samples = {}, {}, {name: [] for name in names}
    for name in names:
        lib, tx = made(name)
        steps[name], carry[name] = jitted_step(lib, tx), jax.tree.map(jnp.copy, (params, tx.init(params)))
    for i in range(WARM_UP + repeats):
        for name in names[:: -1 if i % 2 else 1]:
            seconds, carry[name] = timed(steps[name], *carry[name], grads)
            samples[name] += [seconds] if i >= WARM_UP else []
    return [statistics.median(samples[name]) for name in names]


def speed() -> float:
    """Measures the floating-point operations per second of one large matrix product."""
    x = jnp.ones((2048, 2048), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    return 2 * 2048**3 / statistics.median(timed(product, x)[0] for _ in range(7))


def products(name: str, shapes: Any) -> float:
    """Counts the flops of the products in a step of `soap` or `shampoo`; a side longer than 8192 has no factor."""
    sides = [s.shape for s in jax.tree.leaves(shapes) if len(s.shape) == 2]
    entries = sum(m * n * sum(min(side, _block(name, side)) for side in (m, n) if side <= 8192) for m, n in sides)
    return SIDES[name] * entries


def _block(name: str, side: int) -> int:
    return 1024 if name == "shampoo" else side


def compile_rows(options: Any) -> Iterator[dict[str, Any]]:
    for name in options.methods:
        lower, compiling, processor = first_step(name, squares(options.leaves, 64))
        whole = lower + compiling
        yield {"method": name, "lower": lower, "compile": compiling, "processor": processor, "of 5 s": whole / 5}


def squares_rows(options: Any) -> Iterator[dict[str, Any]]:
    shapes = squares(options.squares, options.side)
    ours, theirs = (first_step(name, shapes)[1] for name in ("muon", "optax muon"))
    step, its = steps_in_turns(["muon", "optax muon"], shapes, options.repeats)
    yield {"method": "muon", "step, ms": 1e3 * step, "of optax's": step / its, "compile of optax's": ours / theirs}


def step_rows(options: Any) -> Iterator[dict[str, Any]]:
    shapes, flops = trees.gpt2(options.width), speed()
    for name in options.methods:
        if name in ("adamw", "optax muon"):
            continue
        step, adamw = steps_in_turns([name, "adamw"], shapes, options.repeats)
        found = {"method": name, "step, ms": 1e3 * step, "of adamw's": step / adamw}
        if name in SIDES:
            work = products(name, shapes)
            found |= {"products, GFLOP": work / 1e9, "floor": work / flops / adamw}
        yield found


PARTS = {"compile": compile_rows, "squares": squares_rows, "step": step_rows}


def main(arguments: Sequence[str]) -> None:
    """Prints a row as soon as it is there, and a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--leaves", type=int, default=300)
    parser.add_argument("--squares", type=int, default=48)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="few and small matrices, as a smoke test")
    options = parser.parse_args(arguments)
    if options.quick:
        options.leaves, options.squares, options.side, options.width, options.repeats = 3, 3, 8, 4, 1
        options.methods = ["muon", "soap"]
    for part in options.parts:
        rows = []
        for row in PARTS[part](options):
            rows.append(row)
            print(part, *(f"{x:.3g}" if isinstance(x, float) else x for x in row.values()), flush=True)
        print(f"\n{part}\n\n{tabulate(rows, headers='keys', tablefmt='github', floatfmt='.3g')}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
