"""Measures the cost of a mesh: times to trace, lower and run an update on eight host devices, compared with one device.

    python -m benchmarks.mesh

The eight devices share the cores of one machine. So the times of the update show the overhead of the mesh, not the gain
from eight machines. Tracing and lowering should take at most 1.2 times as long as without a mesh.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tabulate import tabulate

import gradtx as gx

__all__ = ["main"]

EXPRESSIONS = ["adamw(1e-3)", "chain(clip_by_global_norm(1.0), adamw(1e-3))", "adafactor(1e-3)", "lamb(1e-3)"]
LEAVES, SHAPE, ROUNDS = 24, (512, 512), 7


def _best(f: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the shortest time of several calls, in seconds."""
    times = []
    for _ in range(ROUNDS):
        start = clock()
        f()
        times.append(clock() - start)
    return min(times)


def _traced(step: Any, *args: Any) -> Callable[[], Any]:
    def run() -> None:
        jax.clear_caches()
        jax.jit(lambda *args: step(*args)).lower(*args)

    return run


def measured(expression: str) -> list[str]:
    """For one optimizer the seconds to trace and lower it, and milliseconds of an update, and ratios to them.

    The first ratio is for `tx.update` of arrays on a mesh, the others for `gx.sharding.update`.
    """
    tx = eval(expression, vars(gx))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    places = {f"w{i}": NamedSharding(mesh, PartitionSpec(None, "model")) for i in range(LEAVES)}
    plain = {name: jnp.full(SHAPE, 0.1) for name in places}
    split = jax.device_put(plain, places)
    cells = []
    for params, zero in ((plain, ""), (split, ""), (split, None), (split, "data")):
        if zero == "":
            state, step = tx.init(params), tx.update
        else:
            shardings = gx.sharding.state_shardings(tx, params, zero_axis=zero)
            state = gx.sharding.init(tx, params, shardings)

            def step(g: Any, state: Any, p: Any, shardings: Any = shardings) -> Any:
                return gx.sharding.update(tx, g, state, p, shardings, places)

        compiled = jax.jit(step).lower(params, state, params).compile()
        run = _best(lambda: jax.block_until_ready(compiled(params, state, params)))  # noqa: B023
        cells.append((_best(_traced(step, params, state, params), time.process_time), run))
    (trace, run), *others = cells
    ratios = [f"{a / trace:.2f}" for a, _ in others], [f"{b / run:.2f}" for _, b in others]
    return [expression, f"{trace:.3f}", *ratios[0], f"{1e3 * run:.1f}", *ratios[1]]


def main() -> None:
    """Prints a table of ratios."""
    kinds = ["mesh", "sharding.update", "ZeRO"]
    headers = ["optimizer", "trace + lower (s)", *kinds, "update (ms)", *kinds]
    print(tabulate(map(measured, EXPRESSIONS), headers, disable_numparse=True))


if __name__ == "__main__":
    main()
