"""What an optimizer costs: gradtx against optax, on the same trees, in one process.

    python -m benchmarks.step
    python -m benchmarks.step --optimizer adam yogi --tree all --json out.json

Both libraries build each optimizer from the same expression and go through the same functions
below. Every quantity is sampled in turns: one sample of each library a round, and who goes first
alternates. A ratio is the median of gradtx's samples over the median of optax's; below 1, gradtx
is faster. Arrays are float32 on the default device.

step      One call of `jax.jit(step, donate_argnums=(0, 1))` where `step` is `tx.update` and
          `apply_updates`, from the call until all outputs are ready, so dispatch is included.
trace, lower, compile
          The three stages of `jax.jit(step, ...)` from shapes alone: `.trace`, `.lower`, `.compile`,
          after `jax.clear_caches()` and a garbage collection, with the persistent compilation cache
          off. The first trace and the first lowering are thrown away. What a library keeps in caches
          of its own is not cleared. `trace+lower` is the median of the sums.
eager     `tx.update(grads, state, params)` outside `jax.jit`, until all outputs are ready, with all
          of JAX's caches warm.
state     Bytes of `jax.eval_shape(tx.init, params)` per parameter.
of floor  The time in which the machine copies what a step has to move, over the median step. A step
          must read the gradients, and read and write the parameters and the floating leaves of the
          state, each once; of the two libraries' states the smaller counts for both. The copy
          bandwidth is 2 * nbytes over the median time of copying one array into another that is
          already there, both of 256 MiB (1 GiB on an accelerator), or as large as the parameters if
          those are larger, sampled between the steps. `in place` is the same with `x -> x + 1` on one
          donated array, which is faster where a write to other memory has to fetch it first (most
          CPUs), so the fraction is smaller. Trees that fit in a cache can exceed 1. Global clipping
          has to read the gradients twice, which is not counted.

Before a step is timed, both libraries take a few, and the benchmark stops with an error unless
they moved the parameters alike.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx
from benchmarks import report, trees

LIBRARIES: dict[str, ModuleType] = {"gradtx": gradtx, "optax": optax}


def _contrib(lib: Any) -> Any:
    """Where a library has what optax keeps in `optax.contrib`."""
    return getattr(lib, "contrib", lib)


def _muon(lib: Any) -> Any:
    """Muon on the same leaves for both libraries: all matrices."""
    numbers = lib.WeightDimensionNumbers if lib is gradtx else lib.contrib.MuonDimensionNumbers

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda p: numbers() if p.ndim == 2 else None, params)

    return _contrib(lib).muon(1e-3, muon_weight_dimension_numbers=matrices)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "adamw": lambda lib: lib.adamw(1e-3),
    "clip_adamw": lambda lib: lib.chain(lib.clip_by_global_norm(1.0), lib.adamw(1e-3)),
    "sgd": lambda lib: lib.sgd(1e-3),
    "sgd_momentum": lambda lib: lib.sgd(1e-3, momentum=0.9),
    "adam": lambda lib: lib.adam(1e-3),
    "nadam": lambda lib: lib.nadam(1e-3),
    "rmsprop": lambda lib: lib.rmsprop(1e-3),
    "adagrad": lambda lib: lib.adagrad(1e-3),
    "adadelta": lambda lib: lib.adadelta(1.0),
    "yogi": lambda lib: lib.yogi(1e-3),
    "lion": lambda lib: lib.lion(1e-3),
    "lamb": lambda lib: lib.lamb(1e-3),
    "novograd": lambda lib: lib.novograd(1e-3),
    "adafactor": lambda lib: lib.adafactor(1e-3),
    "prodigy": lambda lib: _contrib(lib).prodigy(),
    "muon": _muon,
    # The decay makes the gradients those of a quadratic, so that all pairs are kept.
    "lbfgs": lambda lib: lib.chain(lib.add_decayed_weights(1.0), lib.lbfgs(1e-2, linesearch=None)),
}

TREES: dict[str, Callable[[argparse.Namespace], trees.ShapeTree]] = {
    "large": lambda args: trees.large(args.entries),
    "resnet50": lambda args: trees.resnet50(),
    "gpt2": lambda args: trees.gpt2(args.width),
    "small": lambda args: trees.small(args.leaves),
}

QUICK = {"tree": ["small"], "repeats": 5, "traces": 1, "compiles": 1, "width": 32, "leaves": 50, "entries": 2**16}

STAGES = ("trace", "lower", "trace+lower")
WARM_UP = 3  # the first calls compile, and the second may once more, where a state changed its weak types
PROBE_EVERY = 3  # rounds between two samples of the bandwidth, so that most steps do not follow a probe

# What is timed for the bandwidth; the first argument's buffer receives the result.
PROBES = {
    "copy": jax.jit(lambda to, x: x * 1.0000001, donate_argnums=0, keep_unused=True),
    "in place": jax.jit(lambda x, _: x + 1, donate_argnums=0),
}

Samples = dict[str, list[float]]


def jitted_step(lib: Any, tx: Any) -> Any:
    """The function that is timed: the optimizer's part of a training step."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return lib.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def timed(function: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Seconds until all outputs are ready, and the outputs."""
    start = time.perf_counter()
    out = jax.block_until_ready(function(*args))
    return time.perf_counter() - start, out


def turn(i: int) -> list[str]:
    """The libraries in the order of round `i`."""
    return list(LIBRARIES)[:: -1 if i % 2 else 1]


def sample_stages(txs: dict[str, Any], shapes: Any, traces: int, compiles: int) -> dict[str, Samples]:
    """Times of tracing and lowering, and of compiling in the first rounds only, since it takes long."""
    samples: dict[str, Samples] = {name: {stage: [] for stage in (*STAGES, "compile")} for name in txs}
    for i in range(1 + max(traces, compiles)):
        for name in turn(i):
            args = shapes, jax.eval_shape(txs[name].init, shapes), shapes
            jax.clear_caches()
            gc.collect()
            trace, traced = timed(jitted_step(LIBRARIES[name], txs[name]).trace, *args)
            lower, lowered = timed(traced.lower)
            if i == 0:
                continue
            for stage, seconds in zip(STAGES, (trace, lower, trace + lower), strict=True):
                samples[name][stage].append(seconds)
            if i <= compiles:
                samples[name]["compile"].append(timed(lowered.compile)[0])
    return samples


def sample_steps(
    txs: dict[str, Any], params: Any, grads: Any, repeats: int
) -> tuple[dict[str, Samples], dict[str, float]]:
    """Times of jitted steps, and the bandwidths of the probes in bytes per second."""
    steps = {name: jitted_step(LIBRARIES[name], tx) for name, tx in txs.items()}
    carry = {}
    for name, tx in txs.items():
        # Copies, for some states share buffers with the parameters, or with themselves.
        carry[name] = jax.tree.map(jnp.copy, (params, tx.init(params)))
        for _ in range(WARM_UP):
            carry[name] = steps[name](*carry[name], grads)
    check_agreement(params, *(carry[name][0] for name in LIBRARIES))

    size = max(2**28 if jax.default_backend() == "cpu" else 2**30, gradtx.tree.nbytes(params))
    arrays = {name: [jnp.ones(size // 4) for _ in range(2)] for name in PROBES}
    samples: dict[str, Samples] = {name: {"step": []} for name in txs}
    seconds: dict[str, list[float]] = {name: [] for name in PROBES}
    for i in range(repeats + 1):
        if i % PROBE_EVERY == 0:
            for name, probe in PROBES.items():
                passed, arrays[name][0] = timed(probe, *arrays[name])
                seconds[name].append(passed)
        for name in turn(i):
            passed, carry[name] = timed(steps[name], *carry[name], grads)
            samples[name]["step"].append(passed)
    # The first round compiles the probes.
    bandwidth = {name: 2 * size / statistics.median(times[1:] or times) for name, times in seconds.items()}
    return samples, bandwidth


def check_agreement(start: Any, one: Any, other: Any) -> None:
    """Raises unless both libraries moved the parameters alike, up to rounding."""

    def distance(a: Any, b: Any) -> float:
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, a, b)))

    moved, apart = distance(start, other), distance(one, other)
    if not apart <= 1e-2 * moved:
        raise RuntimeError(f"The libraries disagree: optax moved the parameters by {moved}, gradtx ended {apart} away.")


def sample_eager(txs: dict[str, Any], params: Any, grads: Any, repeats: int) -> dict[str, Samples]:
    """Times of updates outside `jax.jit`, from the state after one step."""
    states = {name: tx.update(grads, tx.init(params), params)[1] for name, tx in txs.items()}
    samples: dict[str, Samples] = {name: {"eager": []} for name in txs}
    for i in range(WARM_UP + repeats):
        for name in turn(i):
            seconds = timed(txs[name].update, grads, states[name], params)[0]
            if i >= WARM_UP:
                samples[name]["eager"].append(seconds)
    return samples


def bytes_to_move(shapes: Any, states: Sequence[Any]) -> int:
    """What one step has to move: see `of floor` in the module's docstring."""
    floating = [[x for x in jax.tree.leaves(s) if jnp.issubdtype(x.dtype, jnp.inexact)] for s in states]
    return 3 * gradtx.tree.nbytes(shapes) + 2 * min(map(gradtx.tree.nbytes, floating))


def measure(optimizer: str, tree: str, args: argparse.Namespace) -> dict[str, Any]:
    """All samples of one optimizer on one tree in seconds, and what does not take time."""
    print(f"measuring {optimizer} on {tree}", file=sys.stderr, flush=True)
    shapes = TREES[tree](args)
    txs = {name: OPTIMIZERS[optimizer](lib) for name, lib in LIBRARIES.items()}
    states = {name: jax.eval_shape(tx.init, shapes) for name, tx in txs.items()}
    stages = sample_stages(txs, shapes, args.traces, args.compiles)
    params, grads = trees.draw(shapes, seed=0), trees.draw(shapes, seed=1)
    steps, bandwidth = sample_steps(txs, params, grads, args.repeats)
    eager = sample_eager(txs, params, grads, args.repeats)
    samples = {name: {**stages[name], **steps[name], **eager[name]} for name in LIBRARIES}
    return {
        "optimizer": optimizer,
        "tree": tree,
        "leaves": len(jax.tree.leaves(shapes)),
        "parameters": gradtx.tree.size(shapes),
        "state_bytes": {name: gradtx.tree.nbytes(state) for name, state in states.items()},
        "bytes_to_move": bytes_to_move(shapes, list(states.values())),
        "bandwidth": bandwidth,
        "median": {name: {k: statistics.median(v) for k, v in s.items()} for name, s in samples.items()},
        "samples": samples,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    names: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    optimizers, sizes = list(OPTIMIZERS), [*TREES, "all"]
    add("--optimizer", **names, choices=optimizers, default=optimizers[:2], help=f"of {', '.join(optimizers)}")
    add("--tree", **names, choices=sizes, default=["resnet50", "large"], help=f"of {', '.join(sizes)}")
    add("--repeats", type=int, default=30, help="samples of the step and of the eager update (%(default)s)")
    add("--traces", type=int, default=5, help="samples of tracing and lowering (%(default)s)")
    add("--compiles", type=int, default=3, help="samples of compiling (%(default)s)")
    add("--entries", type=int, default=2**24, help="entries of the tree `large` (%(default)s)")
    add("--leaves", type=int, default=1000, help="leaves of the tree `small` (%(default)s)")
    add("--width", type=int, default=256, help="width of the tree `gpt2` (%(default)s; GPT-2 small has 768)")
    add("--json", metavar="FILE", help="also write all samples and medians, in seconds, to FILE")
    add("--quick", action="store_true", help="a smoke test: other defaults, with few samples of small trees")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)  # so that an option that is given still counts
    args = parser.parse_args(argv)
    if min(args.repeats, args.traces, args.compiles, args.entries, args.leaves, args.width) < 1:
        parser.error("counts and sizes must be at least 1")
    args.tree = list(TREES) if "all" in args.tree else args.tree
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    jax.config.update("jax_enable_compilation_cache", False)
    about = report.environment()
    print(", ".join(f"{key} {value}" for key, value in about.items()), end="\n\n", flush=True)
    results = [measure(optimizer, tree, args) for tree in args.tree for optimizer in args.optimizer]
    print(report.tables(results))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"environment": about, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
