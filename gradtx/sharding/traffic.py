"""Estimates from shapes how many bytes the devices send each other in a function.

On a mesh with explicit axes, the type of every array contains its sharding. Each of these needs communication: a sum
over a split axis and a matrix product contracted over one (an all-reduce of the result), and an array whose split ends
(an all-gather). In a ring of n devices, each device receives (n - 1) / n of an array to gather it, and twice as much to
all-reduce it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from gradtx.mesh import names_of
from gradtx.sharding.layout import spec_of
from gradtx.types import Params

__all__ = ["gathered", "reduced", "sent"]

_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_prod", "argmax", "argmin"}


def gathered(nbytes: float, ways: int) -> float:
    """Returns the bytes that a device receives when an array is gathered that is split into `ways` shards."""
    return nbytes * (ways - 1) / ways


def reduced(nbytes: float, ways: int) -> float:
    """Returns the bytes that a device receives in an all-reduce of arrays of so many bytes."""
    return 2 * gathered(nbytes, ways)


def sent(function: Any, *args: Any) -> float:
    """Returns the bytes that each device receives in a call, for shapes with shardings."""
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: Any) -> float:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
    name, ins, outs = equation.primitive.name, [v.aval for v in equation.invars], [v.aval for v in equation.outvars]
    if name in _REDUCTIONS:
        lost = [part for axis in equation.params["axes"] for part in names_of(spec_of(ins[0])[axis])]
        return sum(reduced(_nbytes(x), _ways(x, lost)) for x in outs)
    if name == "dot_general":
        (axes, _), _ = equation.params["dimension_numbers"]
        lost = [part for axis in axes for part in names_of(spec_of(ins[0])[axis])]
        return reduced(_nbytes(outs[0]), _ways(ins[0], lost))
    if name in ("reshard", "sharding_constraint", "mesh_cast"):
        kept = {part for parts in spec_of(outs[0]) for part in names_of(parts)}
        lost = [part for parts in spec_of(ins[0]) for part in names_of(parts) if part not in kept]
        return gathered(_nbytes(outs[0]), _ways(ins[0], lost))
    times = equation.params.get("length", 1) if name == "scan" else 1
    branches = [_of_jaxpr(inner) for inner in _inner(equation.params.values())]
    return times * (max(branches, default=0) if name == "cond" else sum(branches))


def _inner(params: Params) -> Iterator[Any]:
    """Returns the functions inside an operation."""
    for x in params:
        if hasattr(x, "eqns"):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _inner(x)


def _nbytes(aval: Any) -> float:
    """Returns the bytes of an array on one device."""
    shape: Sequence[int] = getattr(aval, "shape", ())
    names = [part for parts in spec_of(aval) for part in names_of(parts)]
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return math.prod(shape) * itemsize / _ways(aval, names)


def _ways(aval: Any, names: Sequence[str]) -> int:
    sharding = getattr(aval, "sharding", None)
    return 1 if sharding is None else math.prod(sharding.mesh.shape[name] for name in names)
