"""Every method that gradtx and optax share, on four trees: time, compilation, memory.

    python -m benchmarks.sweep                                    # all of it; takes hours on two cores
    python -m benchmarks.sweep --method adam yogi --tree resnet50
    python -m benchmarks.sweep --quick                            # in CI: no clock, and an exit status

The methods are found by walking the libraries (`benchmarks/methods.py`), the trees are in `benchmarks/trees.py`, and
`benchmarks/sampling.py` says how samples are taken. Arrays are float32 on the default device. The columns are ratios,
gradtx over optax:

step          One call of the compiled step, with parameters and state donated: `update` and `apply_updates`.
trace+lower   From the function to the program that the compiler gets, with JAX's caches empty.
compile       Compiling that program, with the persistent cache off.
first step    The sum of the two.
eager         `update` outside `jax.jit`, and `first eager` the first such call.
kernels       Operations on arrays in the compiled step; `copies` of arrays beside.
bytes         What these read and write, by the compiler's cost analysis.
temporary     Memory beside arguments and results, by its memory analysis; in bytes per parameter, of both.
state         Bytes per parameter, of both.

The last five do not depend on what else the machine does. `--quick` compiles every method on a matrix and on a few
layers, and fails where gradtx has more of one of them than optax, unless `benchmarks/reasons.toml` says why.
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
