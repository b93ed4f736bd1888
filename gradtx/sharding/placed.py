"""Makes a state with given shardings, and keeps these shardings in every update."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx import checks
from gradtx.core.describe import Place, map_state
from gradtx.core.transformation import as_transformation
from gradtx.mesh import names_of, workers
from gradtx.sharding.layout import as_typed, axes_of, homes, shapes_of, split_by, typed_state, ways_of
from gradtx.types import Params, State, Updates

__all__ = ["constrain", "init", "update", "workplaces"]


def init(tx: Any, params: Params, shardings: Any) -> Any:
    """Makes the state of `tx` with the given shardings, without ever holding a whole copy on one device.

    Each device computes its own part of every array. Call it instead of `tx.init(params)`: that first makes every array
    with the sharding of its parameter, which needs the memory that `zero_axis` is meant to save.

    Args:
      tx: The transformation.
      params: The parameters, or their shapes (`jax.ShapeDtypeStruct`) if the state does not depend on their values.
      shardings: The tree that `gx.sharding.state_shardings` returns.

    Returns:
      The state, as from `tx.init(params)`.

    Raises:
      ValueError: `params` are shapes, and a part of the state, such as a copy of the parameters, depends on their
        values; `shardings` does not belong to this transformation.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    >>> params = {"w": jax.device_put(jnp.ones((8, 4)), NamedSharding(mesh, P("data")))}
    >>> tx = gx.adamw(1e-3)
    >>> state = gx.sharding.init(tx, params, gx.sharding.state_shardings(tx, params))
    >>> state[0].mu["w"].sharding.spec
    P('data',)
    """
    tx = as_transformation("init", tx)
    shapes = jax.eval_shape(tx.init, shapes_of(params))
    _check_like("init", shardings, shapes)
    if not any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params)):
        return jax.jit(tx.init, out_shardings=shardings)(params)

    def make() -> Any:
        state = tx.init(shapes_of(params))
        for path, x in jax.tree_util.tree_leaves_with_path(state):
            if isinstance(x, jax.ShapeDtypeStruct):
                raise ValueError(
                    f"init: the state at {checks.keystr(path)} depends on the values of the parameters, and params has "
                    "shapes alone. Give the parameters."
                )
        return state

    return jax.jit(make, out_shardings=shardings)()


def update(
    tx: Any,
    updates: Updates,
    state: State,
    params: Params = None,
    shardings: Any = None,
    param_shardings: Any = None,
    *,
    work_axis: Any = None,
    **extra: Any,
) -> tuple[Any, Any]:
    """Calls `tx.update`, gives the state the given shardings, and gives the updates the shardings of the parameters.

    If the shardings were made with a `zero_axis`, each device computes only the part of the updates for which it has
    the state, and the updates are gathered at the end.

    Args:
      tx: The transformation.
      updates: The gradients.
      state: The state, as from `gx.sharding.init`.
      params: The parameters.
      shardings: The tree that `gx.sharding.state_shardings` returns.
      param_shardings: The shardings of the parameters, as for `gx.sharding.state_shardings`. Pass it inside `jax.jit`
        on a mesh with automatic axes; elsewhere the parameters' own shardings are used.
      work_axis: None, or the mesh axes whose devices share the work on matrices of one shape (`muon`, `soap`).
      **extra: What else `tx.update` takes. A tree like the parameters is cut as they are.

    Returns:
      The updates and the next state.

    Raises:
      ValueError: `shardings` is missing or has a different structure from the state; a parameter has no sharding.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    >>> places = {"w": NamedSharding(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,)), P())}
    >>> params, tx = jax.device_put({"w": jnp.ones((8, 4))}, places), gx.trace(0.9)
    >>> shardings = gx.sharding.state_shardings(tx, params, zero_axis="data")
    >>> step = jax.jit(lambda g, state, p: gx.sharding.update(tx, g, state, p, shardings, places))
    >>> updates, state = step(params, gx.sharding.init(tx, params, shardings), params)
    >>> state.trace["w"].sharding.is_equivalent_to(shardings.trace["w"], 2)
    True
    """
    tx = as_transformation("update", tx)
    _check_like("update", shardings, state)
    like = updates if params is None else params
    home = homes("update", like, param_shardings)
    work = workplaces(tx, _with_places(state, shardings), shapes_of(like), home)

    cut = partial(_cut, work, home, like)
    mesh = jax.tree.leaves(home)[0].mesh
    if AxisType.Explicit in mesh.axis_types:  # types must agree: the mean of a row lies as the rows do
        state = constrain(state, jax.tree.map(partial(as_typed, mesh), typed_state(tx, shapes_of(like), work)))
    extra = {name: cut(x) for name, x in extra.items()}
    with workers(_workers(mesh, work_axis)):
        new, state = tx.update(cut(updates), state, None if params is None else cut(params), **extra)
    if jax.tree.structure(new) == jax.tree.structure(like):
        new = constrain(_moved(new, work, home), home)  # what is gathered is the update, and nothing before it
    return new, constrain(state, shardings)


def _workers(on: Any, work_axis: Any) -> NamedSharding | None:
    """Returns the sharding that divides stacks of matrices among devices; None if they are not divided."""
    names = axes_of("update", "work_axis", on, work_axis)
    return NamedSharding(on, PartitionSpec(names)) if names else None


def _cut(work: Any, home: Any, like: Any, tree: Any) -> Any:
    """Moves a tree like the parameters to where the update is computed; returns anything else unchanged."""
    same = jax.tree.structure(tree) == jax.tree.structure(like) and _shapes(tree) == _shapes(like)
    return _moved(tree, work, home) if same else tree


def _moved(tree: Any, work: Any, home: Any) -> Any:
    """Moves the arrays of the tree whose update is computed elsewhere than where the parameter is placed."""
    leaves, treedef = jax.tree.flatten(tree)
    there, here = jax.tree.leaves(work), jax.tree.leaves(home)
    moved = [i for i in range(len(leaves)) if there[i] is not here[i]]
    for i, x in zip(moved, _put_all([leaves[i] for i in moved], [there[i] for i in moved]), strict=True):
        leaves[i] = x
    return treedef.unflatten(leaves)


def constrain(tree: Any, shardings: Any) -> Any:
    """Gives every array of a tree the sharding that `shardings` has for it.

    Inside `jax.jit` this is a constraint for the compiler; outside, the arrays are moved. On explicit mesh axes the
    types of the arrays change.

    Args:
      tree: The tree.
      shardings: A tree of the same structure with a `NamedSharding` for each array.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    >>> where = NamedSharding(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,)), P("data"))
    >>> gx.sharding.constrain({"w": jnp.ones(8)}, {"w": where})["w"].sharding.spec
    P('data',)
    """
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten(_put_all(leaves, treedef.flatten_up_to(shardings)))


def _put_all(leaves: list[Any], places: list[NamedSharding]) -> list[Any]:
    kinds = {kind for mesh in {at.mesh for at in places} for kind in mesh.axis_types}
    if kinds == {AxisType.Auto} and all(isinstance(x, Tracer) for x in leaves):
        return lax.with_sharding_constraint(leaves, places)  # of all at once: that is quicker to trace
    return list(map(_put, leaves, places))


def _put(x: Any, where: NamedSharding) -> Any:
    if not isinstance(x, Tracer):
        return jax.device_put(x, where)
    kinds = dict(zip(where.mesh.axis_names, where.mesh.axis_types, strict=True))
    explicit = [name for name, kind in kinds.items() if kind == AxisType.Explicit]
    if len(explicit) == len(kinds):
        return jax.sharding.reshard(x, where)
    if explicit:  # each kind of axes is told in its own way
        x = jax.sharding.reshard(x, NamedSharding(where.mesh, _only(where.spec, explicit)))
        automatic = [name for name in kinds if name not in explicit]
        where = NamedSharding(where.mesh, _only(where.spec, automatic), memory_kind=where.memory_kind)
    return lax.with_sharding_constraint(x, where)


def _only(spec: Any, names: list[str]) -> PartitionSpec:
    """Returns the spec with only these axes of the mesh."""
    parts = [(part,) if isinstance(part, str) else tuple(part or ()) for part in spec]
    kept = [tuple(name for name in part if name in names) for part in parts]
    return PartitionSpec(*[part or None for part in kept])


def _with_places(state: State, shardings: Any) -> Any:
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, shardings)


def workplaces(tx: Any, state: State, shapes: Any, home: Any) -> Any:
    """Returns the sharding with which each parameter's update is computed, so that each device has the state it needs.

    This is the parameter's own sharding, with one axis also split over the further mesh axes that split the state.
    """
    leaves = dict(zip(checks.paths(shapes), jax.tree.leaves(shapes), strict=True))
    found = dict(zip(leaves, jax.tree.leaves(home), strict=True))
    known: set[str] = set()

    def note(place: Place, x: Any) -> Any:
        spec, path, axes = jax.tree.leaves(x)[0].sharding.spec, place.path, place.axes
        if place.slot is None:  # another library's state, in which a parameter's path is the end of the array's own
            path = next((p for p in leaves if place.field == p or place.field.endswith("/" + p)), "")
            axes = tuple(range(len(place.shape)))
        if path not in found or path in known:
            return x
        at, shape = found[path], leaves[path].shape
        taken = {name for part in at.spec for name in names_of(part)}
        for part, n, axis in zip(spec, place.shape, axes, strict=False):
            more = tuple(name for name in names_of(part) if name not in taken)
            if more and axis is not None and shape[axis : axis + 1] == (n,) and n % ways_of(at, axis, more) == 0:
                found[path] = NamedSharding(at.mesh, split_by(at.spec, axis, more))
                known.add(path)
                break
        return x

    map_state(note, tx, state, shapes)
    return jax.tree.unflatten(jax.tree.structure(shapes), list(found.values()))


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [checks.shape(x) for x in jax.tree.leaves(tree)]


def _check_like(who: str, shardings: Any, state: State) -> None:
    """Raises unless the tree of shardings has the structure of this state."""
    if shardings is None:
        raise ValueError(f"{who}: shardings is missing. Give the tree that gx.sharding.state_shardings returns.")
    if jax.tree.structure(shardings) != jax.tree.structure(state):
        raise checks.tree_mismatch(who, "shardings", shardings, "the state", state)
