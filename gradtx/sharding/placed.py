"""Creates a state with given shardings, and keeps the shardings in every update."""

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

__all__ = ["constrain", "init", "update", "workplaces"]


def init(tx: Any, params: Any, shardings: Any) -> Any:
    """Creates the state of `tx` with the given shardings, without ever holding a whole copy on one device.

    Each device computes only its own shard of every array. Use it instead of `tx.init(params)` if you split the state
    by `zero_axis`: `tx.init` creates every array with the sharding of its parameter, so each device would first need
    memory for the state before the split.

    Args:
      tx: The transformation.
      params: The parameters, or their shapes (`jax.ShapeDtypeStruct`) if the state does not depend on their values.
      shardings: The tree that `gx.sharding.state_shardings` returns.

    Returns:
      The state, as from `tx.init(params)`.

    Raises:
      ValueError: `params` are shapes, but an array of the state, such as a copy of the parameters, depends on the
        values of the parameters; or `shardings` does not have the structure of the state.

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
    updates: Any,
    state: Any,
    params: Any = None,
    shardings: Any = None,
    param_shardings: Any = None,
    *,
    work_axis: Any = None,
    **extra: Any,
) -> tuple[Any, Any]:
    """Calls `tx.update`, gives the new state the shardings `shardings`, and the updates those of the parameters.

    If `shardings` was made with a `zero_axis`, each device computes the updates only for the entries whose state it
    holds: gradients and parameters are split accordingly, and the updates are gathered at the end.

    Args:
      tx: The transformation.
      updates: The gradients.
      state: The state, as from `gx.sharding.init`.
      params: The parameters.
      shardings: The tree that `gx.sharding.state_shardings` returns.
      param_shardings: The shardings of the parameters, as for `gx.sharding.state_shardings`. Pass it inside `jax.jit`
        on a mesh with automatic axes, where the parameters have no known sharding; elsewhere it can be left out.
      work_axis: The mesh axis, or several, over whose devices the matrices of one shape are divided, so that each
        device computes the updates of some of the matrices (`muon`, `soap`). None (default) for no such division.
      **extra: Extra arguments of `tx.update`. A tree with the structure and shapes of the parameters is split like the
        parameters.

    Returns:
      The updates and the next state.

    Raises:
      ValueError: `shardings` is missing or does not have the structure of the state; or a parameter has no known
        sharding.

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
    if AxisType.Explicit in mesh.axis_types:  # the types must agree with those of the split parameters
        state = constrain(state, jax.tree.map(partial(as_typed, mesh), typed_state(tx, shapes_of(like), work)))
    extra = {name: cut(x) for name, x in extra.items()}
    with workers(_workers(mesh, work_axis)):
        new, state = tx.update(cut(updates), state, None if params is None else cut(params), **extra)
    if jax.tree.structure(new) == jax.tree.structure(like):
        new = constrain(
            _moved(new, work, home), home
        )  # so that only the update is gathered, and no intermediate result
    return new, constrain(state, shardings)


def _workers(on: Any, work_axis: Any) -> NamedSharding | None:
    """Returns the sharding by which stacks of matrices are divided among devices; None if they are not divided."""
    names = axes_of("update", "work_axis", on, work_axis)
    return NamedSharding(on, PartitionSpec(names)) if names else None


def _cut(work: Any, home: Any, like: Any, tree: Any) -> Any:
    """Moves a tree like the parameters to the shardings `work`; returns any other tree unchanged."""
    same = jax.tree.structure(tree) == jax.tree.structure(like) and _shapes(tree) == _shapes(like)
    return _moved(tree, work, home) if same else tree


def _moved(tree: Any, work: Any, home: Any) -> Any:
    """Moves those arrays of a tree to the shardings `work` for which `work` differs from `home`."""
    leaves, treedef = jax.tree.flatten(tree)
    there, here = jax.tree.leaves(work), jax.tree.leaves(home)
    moved = [i for i in range(len(leaves)) if there[i] is not here[i]]
    for i, x in zip(moved, _put_all([leaves[i] for i in moved], [there[i] for i in moved]), strict=True):
        leaves[i] = x
    return treedef.unflatten(leaves)


def constrain(tree: Any, shardings: Any) -> Any:
    """Gives every array of a tree the sharding in `shardings`.

    Inside `jax.jit` this is a constraint for the compiler (on explicit mesh axes a change of the array's type); outside
    of `jax.jit` the arrays are moved.

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
        return lax.with_sharding_constraint(leaves, places)  # one call for all arrays, which is faster to trace
    return list(map(_put, leaves, places))


def _put(x: Any, where: NamedSharding) -> Any:
    if not isinstance(x, Tracer):
        return jax.device_put(x, where)
    kinds = dict(zip(where.mesh.axis_names, where.mesh.axis_types, strict=True))
    explicit = [name for name, kind in kinds.items() if kind == AxisType.Explicit]
    if len(explicit) == len(kinds):
        return jax.sharding.reshard(x, where)
    if explicit:  # explicit and automatic axes need different calls
        x = jax.sharding.reshard(x, NamedSharding(where.mesh, _only(where.spec, explicit)))
        automatic = [name for name in kinds if name not in explicit]
        where = NamedSharding(where.mesh, _only(where.spec, automatic), memory_kind=where.memory_kind)
    return lax.with_sharding_constraint(x, where)


def _only(spec: Any, names: list[str]) -> PartitionSpec:
    """Returns the spec without all mesh axes but `names`."""
    parts = [(part,) if isinstance(part, str) else tuple(part or ()) for part in spec]
    kept = [tuple(name for name in part if name in names) for part in parts]
    return PartitionSpec(*[part or None for part in kept])


def _with_places(state: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, shardings)


def workplaces(tx: Any, state: Any, shapes: Any, home: Any) -> Any:
    """Returns the sharding in which each parameter's update is computed, so that each device uses the state it holds.

    It is the sharding in `home`, with an axis also split over the further mesh axes that split the same axis of the
    state (such as `zero_axis`).
    """
    leaves = dict(zip(checks.paths(shapes), jax.tree.leaves(shapes), strict=True))
    found = dict(zip(leaves, jax.tree.leaves(home), strict=True))
    known = set()

    def note(place: Place, x: Any) -> Any:
        spec, path, axes = jax.tree.leaves(x)[0].sharding.spec, place.path, place.axes
        if place.slot is None:  # another library's state: the path of an array ends in the path of its parameter
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


def _check_like(who: str, shardings: Any, state: Any) -> None:
    """Raises a ValueError if `shardings` is None or does not have the structure of the state."""
    if shardings is None:
        raise ValueError(f"{who}: shardings is missing. Give the tree that gx.sharding.state_shardings returns.")
    if jax.tree.structure(shardings) != jax.tree.structure(state):
        raise checks.tree_mismatch(who, "shardings", shardings, "the state", state)
