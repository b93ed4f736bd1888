"""Samples times for the benchmarks: both libraries take turns in one process.

Both libraries build each optimizer from the same expression, and are measured by the functions below. Each round takes
one sample of each library; the library that goes first alternates. A ratio is the median of gradtx's samples divided by
the median of optax's samples; below 1, gradtx is faster. Machines are noisy, so only compare ratios within one run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx

LIBRARIES: dict[str, ModuleType] = {"gradtx": gradtx, "optax": optax}
STAGES = ("trace", "lower", "trace+lower")
WARM_UP = 3  # the first calls compile, and the second may once more, where a state changed its weak types

Samples = dict[str, list[float]]


def jitted_step(lib: Any, tx: Any, extra: Callable[[Any, Any], dict[str, Any]] = lambda params, grads: {}) -> Any:
    """Returns the function that is timed: the optimizer's part of a training step."""

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params, **extra(params, grads))
        return lib.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Seconds until all outputs are ready, and the outputs."""
    start = time.perf_counter()
    out = jax.block_until_ready(function(*args, **kwargs))
    return time.perf_counter() - start, out


def turn(i: int) -> list[str]:
    """Returns the libraries in the order of round `i`."""
    return list(LIBRARIES)[:: -1 if i % 2 else 1]


def forget() -> None:
    """Empties JAX's caches, so that the next call is a first one. What a library caches itself is not cleared."""
    jax.clear_caches()
    gc.collect()


def sample_stages(
    steps: dict[str, Callable[[], Any]], arguments: dict[str, tuple[Any, ...]], traces: int, compiles: int
) -> tuple[dict[str, Samples], dict[str, Any]]:
    """Times of tracing and lowering, and of compiling in the first rounds only, since it takes long.

    Each is from shapes alone, with JAX's caches empty, and the sum of all three is `first step`. The first trace and
    the first lowering are thrown away. With the times come the compiled functions.
    """
    samples: dict[str, Samples] = {name: {stage: [] for stage in (*STAGES, "compile", "first step")} for name in steps}
    compiled: dict[str, Any] = {}
    for i in range(1 + max(traces, compiles)):
        for name in turn(i):
            forget()
            trace, traced = timed(steps[name]().trace, *arguments[name])
            lower, lowered = timed(traced.lower)
            if i == 0:
                continue
            for stage, seconds in zip(STAGES, (trace, lower, trace + lower), strict=True):
                samples[name][stage].append(seconds)
            if i <= compiles:
                seconds, compiled[name] = timed(lowered.compile)
                samples[name]["compile"].append(seconds)
                samples[name]["first step"].append(trace + lower + seconds)
    return samples, compiled


def sample_steps(
    steps: dict[str, Callable[..., Any]], carry: dict[str, Any], grads: Any, repeats: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Times of jitted steps, and the parameters at the end; `carry` has the parameters and the state of each."""
    carry = {name: jax.tree.map(jnp.copy, pair) for name, pair in carry.items()}  # some states share buffers
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(WARM_UP + repeats):
        for name in turn(i):
            seconds, carry[name] = timed(steps[name], *carry[name], grads)
            if i >= WARM_UP:
                samples[name].append(seconds)
    return samples, {name: params for name, (params, _) in carry.items()}


def sample_eager(updates: dict[str, Callable[..., Any]], states: dict[str, Any], repeats: int) -> dict[str, Samples]:
    """Times of updates outside `jax.jit`: of the first, with JAX's caches empty, and of later ones."""
    samples: dict[str, Samples] = {name: {"eager": [], "first eager": []} for name in updates}
    for name in turn(0):
        forget()
        seconds, (_, states[name]) = timed(updates[name], states[name])
        samples[name]["first eager"].append(seconds)
    for i in range(WARM_UP + repeats):
        for name in turn(i):
            seconds, _ = timed(updates[name], states[name])
            if i >= WARM_UP:
                samples[name]["eager"].append(seconds)
    return samples


def distance_apart(start: Any, one: Any, other: Any) -> float:
    """Returns the distance between the ends of two runs, divided by how far the second run moved from the start."""

    def distance(a: Any, b: Any) -> float:
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, a, b)))

    moved = distance(start, other)
    return distance(one, other) / moved if moved else distance(one, other)


def check_agreement(start: Any, one: Any, other: Any) -> None:
    """Raises unless both libraries moved the parameters alike, up to rounding."""
    apart = distance_apart(start, one, other)
    if not apart <= 1e-2:
        raise RuntimeError(f"The libraries disagree: they ended {apart} of the way apart.")
