"""Measures time, compilation and memory of every method that gradtx and optax share, on four trees of parameters.

    python -m benchmarks.sweep                                    # everything; takes hours on two cores
    python -m benchmarks.sweep --method adam yogi --tree resnet50
    python -m benchmarks.sweep --quick                            # in CI: measures no times; the exit status tells

`benchmarks/methods.py` finds the methods in both libraries, `benchmarks/trees.py` has the trees, and the docstring of
`benchmarks/sampling.py` explains how times are sampled. Arrays are float32 on the default device. The columns are
ratios of gradtx to optax, except where "both" is written:

step          Time of one call of the compiled step: `update` and `apply_updates`, with parameters and state donated.
trace+lower   Time from the Python function to the program that the compiler gets, with JAX's caches empty.
compile       Time to compile this program, with the persistent cache off.
first step    The sum of `trace+lower` and `compile`.
eager         Time of `update` outside `jax.jit`; `first eager` is the time of the first such call.
kernels       Number of operations on arrays in the compiled step; `copies` is the number of copies of arrays.
bytes         Bytes that the kernels and copies read and write, from the compiler's cost analysis.
temporary     Memory besides arguments and results, from the compiler's memory analysis; bytes per parameter, of both.
state         Size of the state; bytes per parameter, of both.

`kernels`, `copies`, `bytes`, `temporary` and `state` do not depend on how busy the machine is. `--quick` compiles every
method on a matrix and on a few layers, and fails if gradtx has more than optax in one of these columns, unless
`benchmarks/reasons.toml` gives a reason.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from tqdm import tqdm

from benchmarks import methods, reasons, report, trees
from benchmarks.methods import Method
from benchmarks.program import program
from benchmarks.sampling import LIBRARIES, distance_apart, forget, sample_eager, sample_stages, sample_steps
from gradtx import tree

QUICK_TREES = {"one matrix": trees.matrix(), "few layers": trees.few()}


def compiled(method: Method, library: str, shapes: Any) -> Any:
    """Compiles the step of a method."""
    state = jax.eval_shape(method.make(library, shapes).init, shapes)
    return method.step(library, shapes).lower(shapes, state, shapes).compile()


def measure(method: Method, name: str, params: Any, grads: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the median times of one method on one tree in seconds, and the counts of its compiled program."""
    shapes = jax.eval_shape(lambda: params)
    txs = {library: method.make(library, shapes) for library in LIBRARIES}
    states = {library: jax.eval_shape(tx.init, shapes) for library, tx in txs.items()}
    arguments = {library: (shapes, state, shapes) for library, state in states.items()}
    make = {library: partial(method.step, library, shapes) for library in LIBRARIES}
    samples, steps = sample_stages(make, arguments, args.traces, args.compiles)
    found = {library: dict(program(steps[library])._asdict()) for library in LIBRARIES}
    for library, state in states.items():
        found[library]["state_bytes"] = tree.nbytes(state)

    carry = {library: (params, tx.init(params)) for library, tx in txs.items()}
    times, ended = sample_steps(steps, carry, grads, args.repeats)
    for library in LIBRARIES:
        samples[library]["step"] = times[library]
    if args.eager:
        extra = method.extra(params, grads)
        updates = {
            library: lambda state, tx=tx: tx.update(grads, state, params, **extra) for library, tx in txs.items()
        }
        for library, of in sample_eager(updates, {k: s for k, (_, s) in carry.items()}, args.eager).items():
            samples[library] |= of
    return {
        "method": method.name,
        "tree": name,
        "parameters": tree.size(shapes),
        "leaves": len(jax.tree.leaves(shapes)),
        "apart": distance_apart(params, *(ended[library] for library in LIBRARIES)),
        "median": {name: {key: statistics.median(x) for key, x in of.items()} for name, of in samples.items()},
        "program": found,
    }


def inspect(chosen: Sequence[Method]) -> list[str]:
    """Returns where gradtx's compiled steps have more than optax's, and the reasons that are no longer needed."""
    more: dict[tuple[str, str], str] = {}
    for name, shapes in QUICK_TREES.items():
        for method in tqdm(chosen, desc=name, file=sys.stderr, disable=None):
            programs = [program(compiled(method, library, shapes)) for library in LIBRARIES]
            for column in reasons.dearer(*programs):
                ours, theirs = (getattr(x, column) for x in programs)
                more[method.name, column] = f"{method.name}, {name}: {column} {ours:,} against {theirs:,} of optax"
            forget()
    return reasons.unexplained(more, {method.name for method in chosen})


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=(__doc__ or "").split("\n")[0])
    add, shared = parser.add_argument, methods.shared()
    names: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    add("--method", **names, choices=list(shared), default=list(shared), help="methods, by the names that are printed")
    add("--tree", **names, choices=list(trees.TREES), default=list(trees.TREES), help=f"of {', '.join(trees.TREES)}")
    add("--repeats", type=int, default=15, help="samples of the step (%(default)s)")
    add("--traces", type=int, default=3, help="samples of tracing and lowering (%(default)s)")
    add("--compiles", type=int, default=1, help="samples of compiling (%(default)s)")
    add("--leaves", type=int, default=1000, help="leaves of the tree `small` (%(default)s)")
    add("--eager", type=int, default=3, help="samples of the eager update; 0 for none (%(default)s)")
    add("--json", type=pathlib.Path, metavar="FILE", help="write all medians to FILE; add to it where it is there")
    add("--picture", type=pathlib.Path, metavar="FILE", help="draw all ratios into FILE")
    add("--quick", action="store_true", help="count what the compiled programs do, and fail where it is too much")
    args = parser.parse_args(argv)
    args.method = [shared[name] for name in args.method]
    return args


def main(argv: Sequence[str] | None = None) -> None:
    methods.as_users_run()
    args = parse(argv)
    about = report.environment()
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n", flush=True)
    if args.quick:
        problems = inspect(args.method)
        print("\n".join(problems) or f"{len(args.method)} methods: none has more of anything than optax's")
        sys.exit(bool(problems))
    results = json.loads(args.json.read_text())["results"] if args.json and args.json.exists() else []
    for name in args.tree:
        shapes = trees.small(args.leaves) if name == "small" else trees.TREES[name]()
        params, grads = trees.draw(shapes, seed=0), trees.draw(shapes, seed=1)
        for method in tqdm(args.method, desc=name, file=sys.stderr, disable=None):
            results = [old for old in results if (old["method"], old["tree"]) != (method.name, name)]
            results.append(measure(method, name, params, grads, args))
            if args.json:  # after every method, so that nothing is lost
                args.json.write_text(json.dumps({"environment": about, "results": results}, indent=1))
            forget()
    print(report.tables(results))
    if args.picture:
        report.picture(results, args.picture)


if __name__ == "__main__":
    main()
