"""Law 8 on a mesh of 8 devices: with automatic axes, with explicit axes, and inside `shard_map`."""

from __future__ import annotations

import re
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx import checks
from gradtx.core.describe import map_state
from gradtx.core.leafwise import Elementwise
from gradtx.core.packed import is_packed
from gradtx.core.slots import reduced
from gradtx.core.state import declared
from gradtx.sharding.layout import state_shardings
from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import at, close, stack
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import Params, State, Updates

__all__ = ["SPECS", "collectives", "mesh_of", "placed"]

SPECS = {"w": PartitionSpec("x", None), "deep": [PartitionSpec("x")]}
"""How the leaves of the laws' trees are sharded."""


def mesh_of(kind: Any) -> Any:
    """Returns a mesh of 8 devices with one axis of this kind (automatic or explicit)."""
    devices = jax.local_devices(backend="cpu")[:8]
    if len(devices) < 8:
        raise NotApplicableError("JAX has fewer than 8 devices")
    return jax.make_mesh((8,), ("x",), axis_types=(kind,), devices=devices)


def placed(tree: Any, mesh: Any, lead: tuple[None, ...] = ()) -> Any:
    """Shards a tree of the laws on a mesh; `lead` has a None for each additional leading axis."""
    return jax.tree.map(
        lambda x, spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*lead, *spec))), tree, SPECS
    )


def collectives(compiled: Any) -> list[str]:
    """Returns the collective operations, such as all-reduce, in a compiled program."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    return re.findall(rf"= .*? ({kinds})(?:-start)?\(", compiled.as_text())


def _types(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype, _split(x.sharding.spec)), tree)


def _split(spec: Any) -> dict[int, Any]:
    """Maps each sharded axis of an array to the mesh axes that shard it."""
    return {i: name for i, name in enumerate(spec) if name is not None}


@law(8, "explicit axes", quick=True)
def explicit_axes_are_axes_like_any_other(subject: Subject) -> None:
    """With explicit mesh axes, updates are sharded like the gradients, and the state keeps its initial sharding."""
    mesh = mesh_of(AxisType.Explicit)
    params = placed(subject.params, mesh)
    grads = placed(subject.grads, mesh, lead=(None,))
    structures: list[Any] = []

    def steps(params: Params, grads: Updates) -> tuple[Any, Any]:
        updates, states = trajectory(subject.tx, params, grads)  # a scan needs a state that keeps its sharding
        structures.append(jax.tree.structure((updates, states)))
        return updates, states

    avals = jax.jit(steps).trace(params, grads).jaxpr.out_avals
    updates, _ = structures[0].unflatten(avals)
    assert _types(updates) == _types(jax.tree.map(jax.typeof, grads)), "updates and gradients are sharded differently"


@law(8, "shards", quick=True)
def shards_are_updated(subject: Subject) -> None:
    """A step runs inside `shard_map`, which checks which arrays vary from shard to shard."""
    mesh = mesh_of(AxisType.Auto)

    def step(params: Params) -> Updates:
        _, state = update(subject.tx, params, subject.tx.init(params), params)
        return update(subject.tx, params, state, params)[0]

    jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(SPECS,), out_specs=SPECS)).trace(subject.params)


@law(8, "mesh")
def a_mesh_equals_one_device(subject: Subject) -> None:
    """A step on 8 devices equals a step on one device up to rounding, and the state is sharded as declared.

    The state keeps this sharding, so that a step is compiled once. An elementwise rule sends nothing between devices,
    unless its state contains sums over leaves.
    """
    slots = declared(subject.tx.State) if isinstance(subject.tx, Elementwise) else {}
    for kind in (AxisType.Auto, AxisType.Explicit):
        what = f"with {kind.name.lower()} axes"
        mesh = mesh_of(kind)
        params = placed(subject.params, mesh)
        grads = [placed(at(subject.grads, t), mesh) for t in range(3)]
        with jax.set_mesh(mesh):
            state = subject.tx.init(params)
            step = jax.jit(lambda g, state, p: update(subject.tx, g, state, p)).lower(grads[0], state, params).compile()
        lies_as_declared(subject.tx, state, params, what)
        lies_as_planned(subject.tx, state, params, what)
        if isinstance(subject.tx, Elementwise) and not any(isinstance(x, reduced) for x in slots.values()):
            assert not collectives(step), f"an elementwise step sends data between devices {what}"
        seen: list[tuple[Updates, State]] = []
        for g in grads:
            # The compiled step raises if the sharding of the state has changed. Wait for each step, because a CPU may
            # not have enough threads to run two steps on 8 devices at the same time.
            updates, state = jax.block_until_ready(step(g, state, params))
            seen.append((updates, state))
        close(stack(seen), subject.expected, rtol=1e-12, atol=1e-15, about=f"results on 8 devices differ {what}")


def lies_as_planned(tx: Any, state: State, params: Params, what: str) -> None:
    """Asserts that `gx.sharding.state_shardings` predicts from shapes the sharding of every array of a state."""
    arrays, places = jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(state_shardings(tx, params))
    for (path, x), expected in zip(arrays, places, strict=True):
        where = f"{checks.keystr(path)} has the sharding {x.sharding}, but {expected} was expected, {what}"
        assert x.sharding.is_equivalent_to(expected, x.ndim), where


def lies_as_declared(tx: Any, state: State, params: Params, what: str) -> None:
    """Asserts that every array of a state is on all devices, and that its axes are sharded like the parameter's."""
    leaves = dict(zip(checks.paths(params), jax.tree.leaves(params), strict=True))

    def look(place: Any, x: Any) -> None:
        where, p = f"{place.link}.{place.field} {place.path}", leaves.get(place.path)
        follows = [(n, axis) for n, axis in zip(place.shape, place.axes, strict=True) if axis is not None]
        other = p is not None and any(p.shape[axis : axis + 1] != (n,) for n, axis in follows)
        for part in jax.tree.leaves(x):  # a plain array is one leaf; a packed array may have several
            assert isinstance(part.sharding, NamedSharding), f"{where} has the sharding {part.sharding} {what}"
            assert len(part.sharding.device_set) == 8, f"{where} is on only some of the devices {what}"
            if p is None or other or (is_packed(x) and part.ndim != len(place.shape)):
                continue  # the array belongs to the whole tree, or to a rearranged view of the tree
            spec = _split(p.sharding.spec)
            divided = [axis if n % 8 == 0 else None for n, axis in zip(part.shape, place.axes, strict=True)]
            expected = {i: spec[axis] for i, axis in enumerate(divided) if axis in spec}
            assert _split(part.sharding.spec) == expected, f"{where} is sharded as {part.sharding.spec} {what}"

    map_state(look, tx, state, params)
