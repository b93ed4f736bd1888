"""Computes from shapes alone the memory and the network traffic that a training step needs on each device of a mesh."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding

from gradtx.core.chain import chain
from gradtx.core.leafwise import Elementwise, Leafwise
from gradtx.core.packed import is_packed
from gradtx.core.transformation import as_transformation
from gradtx.frozen import Frozen
from gradtx.mesh import names_of
from gradtx.sharding.layout import homes, shapes_of, state_shardings, typed_state
from gradtx.sharding.placed import workplaces
from gradtx.sharding.traffic import gathered, reduced, sent
from gradtx.storage.stored import stored

__all__ = ["Plan", "plan"]


class Plan(Frozen):
    """Memory and network traffic of a training step on each device, in bytes; its repr is a table."""

    parameters: int
    """Bytes of the parameters on a device."""
    gradients: int
    """Bytes of the gradients on a device; gradients have the shardings of the parameters."""
    state: int
    """Bytes of the state on a device."""
    temporary: int
    """Bytes of temporary arrays during the update."""
    whole_state: int
    """Bytes of the state of all devices together, each array counted once."""
    whole: int
    """Bytes of the arrays of the state, except scalars, that are not split over `zero_axis`."""
    network: dict[str, float]
    """Bytes that a device receives in a step: under "gradients", the name of each transformation of the chain, and
    "updates".
    """

    @property
    def total(self) -> int:
        """Bytes of parameters, gradients, state and temporary arrays on a device."""
        return self.parameters + self.gradients + self.state + self.temporary

    def repeated(self, more: Plan, times: int) -> Plan:
        """Returns this plan plus `times` the difference between `more` and this plan.

        Use it for models of equal layers: this plan is for one layer and `more` for two.
        """

        def line(a: float, b: float) -> Any:
            return a + times * (b - a)

        names = ("parameters", "gradients", "state", "whole_state", "whole")
        network = {name: line(x, more.network[name]) for name, x in self.network.items()}
        sizes = {name: line(getattr(self, name), getattr(more, name)) for name in names}
        return Plan(**sizes, temporary=max(self.temporary, more.temporary), network=network)

    def __repr__(self) -> str:
        memory = {name: getattr(self, name) for name in ("parameters", "gradients", "state", "temporary", "total")}
        lines = ["bytes on each device", *_table(memory)]
        lines += ["", "bytes that each device receives in a step", *_table(self.network)]
        if self.whole:
            lines += ["", f"{self.whole:,} bytes of the state are not split over the zero axis."]
        return "\n".join(lines)


def _table(rows: dict[str, Any]) -> list[str]:
    width, size = max(map(len, rows)), max(len(f"{x:,.0f}") for x in rows.values())
    return [f"  {name:{width}}  {x:{size},.0f}" for name, x in rows.items()]


def plan(tx: Any, params: Any, param_shardings: Any = None, zero_axis: Any = None, data_axis: Any = None) -> Plan:
    """Computes the memory and the network traffic of a training step on each device; needs no devices.

    The bytes of parameters, gradients and state are exact. `temporary` assumes that elementwise methods update one
    parameter after the other; a compiled program may need more, above all with arrays quantized by `gx.stored`.
    `network` counts the bytes that each device receives with ring algorithms. For methods that work on whole matrices
    (`muon`, `shampoo`, `soap`) it assumes that the matrices are gathered; the compiler may choose a different way.

    Args:
      tx: The transformation.
      params: The shapes of the parameters (`jax.ShapeDtypeStruct`), or the parameters.
      param_shardings: The shardings of the parameters, as for `gx.sharding.state_shardings`; the mesh may be abstract.
      zero_axis: As for `gx.sharding.state_shardings`.
      data_axis: The axis, or axes, over which gradients are summed; by default `zero_axis`.

    Returns:
      A `Plan`, with `parameters`, `gradients`, `state`, `temporary` and `total` in bytes, and `network`.

    >>> import jax, gradtx as gx
    >>> from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec as P
    >>> mesh = AbstractMesh((64, 8), ("data", "model"))
    >>> where = NamedSharding(mesh, P(None, "model"))
    >>> params = {"w": jax.ShapeDtypeStruct((8192, 8192), "float32", sharding=where)}
    >>> plan = gx.sharding.plan(gx.adamw(1e-3), params, zero_axis="data")
    >>> plan.state, plan.network["updates"]
    (1048588, 33030144.0)
    """
    tx = as_transformation("plan", tx)
    where, shapes = homes("plan", params, param_shardings), shapes_of(params)
    shardings, state = state_shardings(tx, shapes, where, zero_axis), jax.eval_shape(tx.init, shapes)
    placed = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, shardings)
    work = workplaces(tx, placed, shapes, where)
    mesh, zero = jax.tree.leaves(where)[0].mesh, names_of(zero_axis)
    data = names_of(zero_axis if data_axis is None else data_axis)
    here = _on_device(shapes, where)
    split = [home.spec != at.spec for home, at in zip(*map(jax.tree.leaves, (where, work)), strict=True)]
    moved = sum(x for x, yes in zip(here, split, strict=True) if yes)
    ways, n_data = (math.prod(mesh.shape[name] for name in names) for names in (zero, data))
    network = {"gradients": gathered(moved, n_data) + reduced(sum(here) - moved, n_data)}
    network |= {**_links(tx, shapes, work), "updates": gathered(moved, ways)}
    return Plan(
        parameters=sum(here),
        gradients=sum(here),
        state=sum(_on_device(state, shardings)),
        temporary=_temporary(tx, state, shardings, shapes, here, _on_device(shapes, work), split),
        whole_state=sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)),
        whole=_uncut(state, shardings, zero),
        network=network,
    )


def _uncut(state: Any, shardings: Any, zero: tuple[str, ...]) -> int:
    """Returns the bytes of the arrays, except scalars, that are not split over the zero axis."""
    return sum(
        math.prod(x.shape) * x.dtype.itemsize
        for x, at in zip(*map(jax.tree.leaves, (state, shardings)), strict=True)
        if zero and x.ndim and not {*zero} & {name for part in at.spec for name in names_of(part)}
    )


def _on_device(shapes: Any, shardings: Any) -> list[int]:
    """Returns the bytes of each array on one device."""
    pairs = zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    return [math.prod(at.shard_shape(x.shape)) * x.dtype.itemsize for x, at in pairs]


def _temporary(tx: Any, state: Any, shardings: Any, shapes: Any, here: Any, cut: Any, split: Any) -> int:
    """Estimates the bytes of temporary arrays on a device during the update.

    For elementwise methods, parameters are updated one by one. The largest parameter then needs its update, twice if
    the update is gathered (before and after), and its quantized arrays decoded to floating point. Transformations that
    need a whole parameter or the whole tree hold the updates of all parameters at the same time.
    """
    packed, kept = (jax.tree.leaves(tree, is_leaf=is_packed) for tree in (state, shardings))
    loaded: dict[tuple[int, ...], int] = {}
    for x, at in zip(packed, kept, strict=True):
        if is_packed(x):
            codes = next(
                place for part, place in zip(jax.tree.leaves(x), jax.tree.leaves(at), strict=True) if part.ndim
            )
            size = math.prod(codes.shard_shape(x.shape)) * x.dtype.itemsize
            loaded[x.shape] = loaded.get(x.shape, 0) + size
    counts = {x.shape: sum(y.shape == x.shape for y in jax.tree.leaves(shapes)) for x in jax.tree.leaves(shapes)}
    held = any(isinstance(link, Leafwise) and not isinstance(link, Elementwise) for _, link in _flat(tx))
    found = [sum(cut) if held else 0]
    for x, whole, part, yes in zip(jax.tree.leaves(shapes), here, cut, split, strict=True):
        found.append((whole + part if yes else 0) + loaded.get(x.shape, 0) // counts[x.shape])
    return max(found)


def _updated(link: Any, g: Any, state: Any, p: Any, extra: dict[str, Any]) -> Any:
    return link.update(g, state, p, **extra)


def _flat(tx: Any) -> Iterator[tuple[str, Any]]:
    """Yields the transformations of a chain and of nested chains; replaces `gx.stored(inner)`, which sends nothing, by
    `inner`.
    """
    if isinstance(tx, stored):
        yield from _flat(tx.inner)
    elif isinstance(tx, chain):
        for link in tx.links:
            yield from _flat(link)
    else:
        yield type(tx).__name__, tx


def _links(tx: Any, shapes: Any, work: Any) -> dict[str, float]:
    """Returns the bytes that each transformation of the chain sends, by name; equal names are added up."""
    mesh = jax.tree.leaves(work)[0].mesh
    explicit = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=(AxisType.Explicit,) * len(mesh.axis_names))
    tree = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(explicit, at.spec)), shapes, work
    )
    found: dict[str, float] = {}
    for name, link in _flat(tx):
        state = typed_state(link, shapes, work)
        extra = {"value": jax.ShapeDtypeStruct((), "float32")} if link.accepts("value") else {}
        with jax.sharding.use_abstract_mesh(explicit):
            nbytes = sent(
                lambda g, state, p, extra, link=link: link.update(g, state, p, **extra), tree, state, tree, extra
            )
        found[name] = found.get(name, 0) + nbytes
    return found
