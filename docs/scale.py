"""Writes the table of `docs/scale.md`: the collectives of a step on eight devices, counted in the compiled program.

python -m docs.scale
"""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from typing import Any

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tabulate import tabulate

import gradtx as gx
from gradtx.testing.mesh import collectives

__all__ = ["EXPRESSIONS", "PAGE", "compiled_step", "page", "parameters"]

PAGE = pathlib.Path(__file__).parent / "scale.md"
BEGIN, END = "<!-- table: python -m docs.scale -->\n", "<!-- end of table -->\n"
EXPRESSIONS = [
    "adamw(1e-3)",
    "lion(1e-4)",
    "chain(clip_by_global_norm(1.0), adamw(1e-3))",
    "stored(adamw(1e-3), 'int8')",
    "prodigy()",
    "lamb(1e-3)",
    "adafactor(1e-3)",
    "muon(1e-3)",
]


def parameters(mesh: Any, n: int = 3) -> dict[str, Any]:
    """Returns the shapes of `n` matrices whose columns are split over the mesh axis 'model'."""
    where = NamedSharding(mesh, PartitionSpec(None, "model"))
    return {f"w{i}": jax.ShapeDtypeStruct((512, 256), "float32", sharding=where) for i in range(n)}


def compiled_step(tx: Any, params: Any, zero_axis: Any) -> Any:
    """Compiles the update for parameters with these shapes and shardings, and does not run it."""
    places = jax.tree.map(lambda x: x.sharding, params)
    shardings = gx.sharding.state_shardings(tx, params, zero_axis=zero_axis)
    shapes = jax.eval_shape(tx.init, params)
    state = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, shardings)

    def step(g: Any, state: Any, p: Any) -> Any:
        return gx.sharding.update(tx, g, state, p, shardings, places)

    return jax.jit(step, donate_argnums=(0, 1), keep_unused=True).lower(params, state, params).compile()


def _row(expression: str) -> list[str]:
    tx = eval(expression, vars(gx))
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:8])
    params, cells = parameters(mesh), []
    for zero in (None, "data"):
        plan = gx.sharding.plan(tx, params, zero_axis=zero, data_axis="data")
        counts = Counter(collectives(compiled_step(tx, params, zero)))
        cells += [", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "none", f"{plan.state:,}"]
    return [f"`{expression}`", *cells]


def page() -> str:
    """Returns the page with a new table."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    headers = ["optimizer", "collectives", "state on a device", "with ZeRO", "state on a device"]
    table = tabulate(map(_row, EXPRESSIONS), headers, tablefmt="pipe", disable_numparse=True)
    return f"{before}{BEGIN}{table}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
