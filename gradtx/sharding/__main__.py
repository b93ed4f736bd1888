"""Plans a training run from the command line, without any device.

    python -m gradtx.sharding plan --params 70e9 --mesh data=64,model=8 --optimizer adamw --storage int8 --zero data

It takes a transformer of about so many parameters, or the shapes in a file (`--shapes`):

    {"layer/kernel": {"shape": [4096, 4096], "spec": [null, "model"], "dtype": "bfloat16"}, ...}
"""

from __future__ import annotations

import argparse
import inspect
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import gradtx as gx

__all__ = ["main", "planned", "size_of", "transformer"]

VOCABULARY = 32_768


def size_of(count: float) -> tuple[int, int]:
    """Returns width and depth of a decoder with about `count` parameters, a hundred times wider than deep."""
    width, step = (count * 102 / 12) ** (1 / 3), 256 if count < 1e10 else 1024  # widths that many devices divide
    width = max(step, round(width / step) * step)
    return width, max(1, round((count - 2 * VOCABULARY * width) / (12 * width**2)))


def transformer(width: int, layers: int, mesh: AbstractMesh, dtype: Any = "float32") -> dict[str, Any]:
    """Returns the parameter shapes of a decoder; a mesh axis 'model' splits the matrices as in Megatron.

    A layer has four square matrices for attention and two matrices with a hidden side of four times the width.
    """
    axis = "model" if "model" in mesh.axis_names else None

    def array(*lengths: int, split: int | None = None) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec(*[axis if i == split else None for i in range(len(lengths))])
        return jax.ShapeDtypeStruct(lengths, dtype, sharding=NamedSharding(mesh, spec))

    layer = {
        **{name: array(width, width, split=1) for name in ("query", "key", "value")},
        "out": array(width, width, split=0),
        "up": array(width, 4 * width, split=1),
        "down": array(4 * width, width, split=0),
        "attention_norm": array(width),
        "mlp_norm": array(width),
    }
    ends = {"embedding": array(VOCABULARY, width, split=0), "head": array(width, VOCABULARY, split=1)}
    return {**ends, **{f"layer_{i}": layer for i in range(layers)}, "norm": array(width)}


def _mesh(text: str) -> AbstractMesh:
    try:
        pairs = [(name, int(size)) for name, _, size in (part.partition("=") for part in text.split(","))]
    except ValueError:
        raise SystemExit(f"plan: --mesh must be like data=64,model=8, got {text!r}.") from None
    return AbstractMesh(
        tuple(size for _, size in pairs), tuple(name for name, _ in pairs), axis_types=(AxisType.Auto,) * len(pairs)
    )


def _shapes(path: str, mesh: AbstractMesh, dtype: str) -> dict[str, Any]:
    rows = json.loads(pathlib.Path(path).read_text())
    return {
        name: jax.ShapeDtypeStruct(
            tuple(row["shape"]),
            row.get("dtype", dtype),
            sharding=NamedSharding(
                mesh, PartitionSpec(*[tuple(x) if isinstance(x, list) else x for x in row.get("spec", ())])
            ),
        )
        for name, row in rows.items()
    }


def _optimizer(text: str, storage: str | None) -> Any:
    """Evaluates an expression in gradtx's names; a mere optimizer's name is called with 1e-3 for required arguments."""
    made = eval(text, dict(vars(gx)))
    if not isinstance(made, gx.GradientTransformation):
        required = [p.name for p in inspect.signature(made).parameters.values() if p.default is p.empty]
        made = made(**dict.fromkeys(required, 1e-3))
    return made if storage is None else gx.stored(made, storage)


def planned(tx: Any, count: float, mesh: AbstractMesh, dtype: str, zero: Any, data: Any) -> tuple[int, Any]:
    """Returns the exact number of parameters and the plan, extrapolated from the plans for one and two layers."""
    width, layers = size_of(count)
    trees = [transformer(width, n, mesh, dtype) for n in (1, 2)]
    one, two = (gx.sharding.plan(tx, tree, zero_axis=zero, data_axis=data) for tree in trees)
    sizes = [gx.tree.size(tree) for tree in trees]
    return sizes[0] + (layers - 1) * (sizes[1] - sizes[0]), one.repeated(two, layers - 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the plan."""
    parser = argparse.ArgumentParser(prog="python -m gradtx.sharding")
    command = parser.add_subparsers(required=True).add_parser("plan", help="bytes per device, and over the network")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--params", type=float, help="the number of parameters of a transformer, such as 70e9")
    what.add_argument("--shapes", help="a JSON file with shape, spec and dtype of each parameter")
    command.add_argument("--mesh", required=True, type=_mesh, help="the axes of the mesh, as in data=64,model=8")
    command.add_argument("--optimizer", default="adamw", help="a name or an expression, as in 'lion(1e-4)'")
    command.add_argument("--storage", help="a storage format for the state, such as int8")
    command.add_argument("--zero", help="the axis to split the state over")
    command.add_argument("--data", default="data", help="the axis over which gradients are summed (default: data)")
    command.add_argument("--dtype", default="float32", help="of the parameters (default: float32)")
    given = parser.parse_args(arguments)
    data = given.data if given.data in given.mesh.axis_names else ()
    tx = _optimizer(given.optimizer, given.storage)
    if given.shapes:
        params = _shapes(given.shapes, given.mesh, given.dtype)
        count, found = gx.tree.size(params), gx.sharding.plan(tx, params, zero_axis=given.zero, data_axis=data)
    else:
        count, found = planned(tx, given.params, given.mesh, given.dtype, given.zero, data)
    print(f"{tx}\n{count:,} parameters on {given.mesh.size} devices\n\n{found}")


if __name__ == "__main__":
    main()
