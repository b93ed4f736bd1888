"""Derives the sharding of every array of a state from shapes.

The `init` of every transformation shards the arrays of its state as their slots declare: an array per parameter is
sharded like the parameter, a mean over columns is not split over what splits the columns, a number is replicated. On a
mesh with explicit axes, shardings are part of the types, so `jax.eval_shape` finds them without a device. The mesh of
the run may have automatic axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from gradtx import checks
from gradtx import mesh as meshes
from gradtx.core.describe import Place, map_state
from gradtx.core.packed import is_packed
from gradtx.core.slots import per_tree
from gradtx.core.transformation import as_transformation
from gradtx.mesh import names_of
from gradtx.storage.host import host
from gradtx.types import Params

__all__ = [
    "as_typed",
    "axes_of",
    "homes",
    "shapes_of",
    "spec_of",
    "split_by",
    "state_shardings",
    "typed_state",
    "ways_of",
]

WHO = "state_shardings"


def state_shardings(tx: Any, params: Params, param_shardings: Any = None, zero_axis: Any = None) -> Any:
    """Returns the sharding of each array of the state: a tree like `tx.init(params)` of `NamedSharding`s.

    An array per parameter has the sharding of its parameter. An array that lacks some axes of the parameter is not
    split over the mesh axes that split them. Factors and stacks are split along the axes that they share with the
    parameter. Scalars are whole on every device. Codes and scales of state quantized by `gx.stored` are split like the
    array that they encode; arrays in the format 'host' are placed in the pinned memory of the host. Nothing is
    computed, and no device is needed: the mesh may be abstract.

    Args:
      tx: The transformation.
      params: The parameters, or their shapes (`jax.ShapeDtypeStruct`).
      param_shardings: A `NamedSharding` for each parameter, or one for all, or for whole branches of the tree. By
        default the sharding of each parameter itself.
      zero_axis: None (default), or the name (or names) of a mesh axis over which the parameters are replicated and the
        state should be split, as in ZeRO-1: usually the axis of the data. Each array is split over it along the longest
        of its axes whose length the number of devices divides (for `gx.stored` preferably without cutting blocks). An
        array without such an axis, or already split over `zero_axis`, is left as without `zero_axis`. Scalars stay
        replicated.

    Returns:
      The tree of shardings. Give it to `gx.sharding.init` and `gx.sharding.update`, or to `jax.jit` as `out_shardings`.

    Raises:
      TypeError: A leaf of `param_shardings` is no `NamedSharding`.
      ValueError: A parameter has no `NamedSharding`; two parameters are on different meshes; `zero_axis` is no axis of
        the mesh; a parameter's shape cannot be split as its sharding requires.

    >>> import jax, gradtx as gx
    >>> from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec as P
    >>> mesh = AbstractMesh((4, 2), ("data", "model"))
    >>> params = {"w": jax.ShapeDtypeStruct((512, 256), "float32", sharding=NamedSharding(mesh, P(None, "model")))}
    >>> tx = gx.scale_by_adam()
    >>> gx.sharding.state_shardings(tx, params).mu["w"].spec
    P(None, 'model')
    >>> gx.sharding.state_shardings(tx, params, zero_axis="data").mu["w"].spec
    P('data', 'model')
    """
    tx = as_transformation(WHO, tx)
    where = homes(WHO, params, param_shardings)
    mesh = jax.tree.leaves(where)[0].mesh
    zero = axes_of(WHO, "zero_axis", mesh, zero_axis)
    shapes = shapes_of(params)
    parts = _stored_parts(tx, shapes) if zero else {}
    paths = jax.tree.unflatten(jax.tree.structure(shapes), checks.paths(shapes))
    cut = jax.tree.map(lambda x, home, path: _zeroed(home, x.shape, zero, parts.get(path, ())), shapes, where, paths)
    state = typed_state(tx, shapes, cut)

    def one(place: Place, x: Any) -> Any:
        spec = spec_of(max(jax.tree.leaves(x), key=lambda part: part.size))  # of a stored array, its codes
        own = isinstance(place.slot, per_tree) or len(spec) != x.ndim
        axis = None if own else _axis_for(zero, mesh, spec, x.shape)
        kind = "pinned_host" if is_packed(x) and isinstance(x.format, host) else None
        return jax.tree.map(lambda part: _lies(mesh, part, axis, zero, kind), x)

    return map_state(one, tx, state, shapes)


def typed_state(tx: Any, shapes: Any, where: Any) -> Any:
    """Returns the shapes and shardings of a fresh state, for parameters with the shardings `where`."""
    mesh = jax.tree.leaves(where)[0].mesh
    explicit = AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=(AxisType.Explicit,) * len(mesh.axis_names))
    placed = jax.tree.map(
        lambda x, home: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(explicit, home.spec)),
        shapes,
        where,
    )
    with jax.sharding.use_abstract_mesh(explicit):
        return jax.eval_shape(tx.init, placed)


def as_typed(mesh: Any, x: Any) -> NamedSharding:
    """Returns the sharding of an array of `typed_state` on a mesh."""
    return _lies(mesh, x, None, (), None)


def split_by(spec: Sequence[Any], axis: int, names: tuple[str, ...]) -> PartitionSpec:
    """Returns the spec with one axis of the array split over further axes of the mesh."""
    parts = [*spec, *[None] * (axis + 1 - len(spec))]
    together = [*names_of(parts[axis]), *names]
    parts[axis] = tuple(together) if len(together) > 1 else together[0]
    return PartitionSpec(*parts)


def ways_of(home: NamedSharding, axis: int, names: tuple[str, ...]) -> int:
    """Returns into how many pieces one axis of an array is split if it is also split over these axes of the mesh."""
    return _ways(home.mesh, *home.spec[axis : axis + 1], names)


def _stored_parts(tx: Any, shapes: Any) -> dict[str, list[tuple[int, ...]]]:
    """Returns for each parameter the shapes of its quantized arrays' parts, such as codes and scales of blocks."""
    found: dict[str, list[tuple[int, ...]]] = {}

    def note(place: Place, x: Any) -> Any:
        if is_packed(x):
            found.setdefault(place.path, []).extend(p.shape for p in jax.tree.leaves(x) if p.ndim == x.ndim)
        return x

    map_state(note, tx, jax.eval_shape(tx.init, shapes), shapes)
    return found


def _zeroed(home: NamedSharding, shape: tuple[int, ...], zero: tuple[str, ...], parts: Any) -> NamedSharding:
    """Returns the sharding for the state of a parameter: the parameter's, also split over `zero` if possible.

    It prefers an axis whose split cuts no block of a quantized array: otherwise devices would have to exchange the
    scales of blocks.
    """
    spec = [*home.spec, *[None] * (len(shape) - len(home.spec))]
    axis = _axis_for(zero, home.mesh, spec, shape, parts)
    axis = _axis_for(zero, home.mesh, spec, shape) if axis is None else axis
    return home if axis is None else NamedSharding(home.mesh, split_by(spec, axis, zero))


def spec_of(x: Any) -> list[Any]:
    """Returns the mesh axes that split each axis according to the array's type; automatic mesh axes are not in it."""
    sharding = getattr(x, "sharding", None)
    spec = () if sharding is None else tuple(sharding.spec)
    return [*spec, *[None] * (len(getattr(x, "shape", ())) - len(spec))]


def _ways(mesh: Any, *parts: Any) -> int:
    """Returns into how many pieces axes of the mesh split an axis of an array."""
    return math.prod(mesh.shape[name] for part in parts for name in names_of(part))


def _axis_for(
    zero: tuple[str, ...], mesh: Any, spec: Sequence[Any], shape: tuple[int, ...], parts: Sequence[Any] = ()
) -> int | None:
    """Returns the longest axis that can also be split over `zero`, in all `parts`; None if there is none, or one is."""
    if not zero or any(name in zero for part in spec for name in names_of(part)):
        return None
    like = [part for part in [shape, *parts] if len(part) == len(shape)]
    fit = [i for i in range(len(shape)) if all(x[i] and x[i] % _ways(mesh, spec[i], zero) == 0 for x in like)]
    return max(fit, key=lambda i: shape[i], default=None)


def _lies(mesh: Any, part: Any, axis: int | None, zero: tuple[str, ...], kind: str | None) -> NamedSharding:
    """Returns the sharding of one array: as in its type, with `axis` also split over `zero` if possible."""
    spec = spec_of(part)
    if axis is not None and axis < part.ndim and part.shape[axis] % _ways(mesh, spec[axis], zero) == 0:
        spec = list(split_by(spec, axis, zero))
    while spec and spec[-1] is None and AxisType.Explicit not in mesh.axis_types:
        spec.pop()  # as in the results of compiled programs: with another spec a step would be compiled again
    return NamedSharding(mesh, PartitionSpec(*spec), memory_kind=kind if part.ndim else None)


def shapes_of(params: Params) -> Any:
    """Returns the shape and dtype of each parameter, without values and shardings."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(checks.shape(x), checks.dtype(x)), params)


# --- where the parameters lie


def homes(who: str, params: Params, param_shardings: Any) -> Any:
    """Returns each parameter's sharding: that in `param_shardings`, or by default that of the parameter itself."""
    found = _of_themselves(who, params) if param_shardings is None else _given(who, params, param_shardings)
    pairs = zip(checks.paths(params), jax.tree.leaves(params), jax.tree.leaves(found), strict=True)
    first = None
    for path, x, home in pairs:
        first = home if first is None else first
        if home.mesh != first.mesh:
            raise ValueError(
                f"{who}: {path} lies on another mesh than the parameters before it, {home.mesh} and {first.mesh}. Put "
                "all parameters on one mesh."
            )
        try:
            home.shard_shape(checks.shape(x))
        except ValueError as error:
            raise ValueError(
                f"{who}: {path} of shape {checks.shape(x)} cannot be split as {home.spec}: {error}"
            ) from None
    if first is None:
        raise ValueError(f"{who}: params has no arrays, so that there is no mesh. Give at least one parameter.")
    return found


def _of_themselves(who: str, params: Params) -> Any:
    def one(path: Any, x: Any) -> NamedSharding:
        home = meshes.place(x) if isinstance(x, Tracer) else getattr(x, "sharding", None)
        if not isinstance(home, NamedSharding):
            inside = "Inside jit only explicit axes are a part of an array's type. " if isinstance(x, Tracer) else ""
            raise ValueError(
                f"{who}: params at {checks.keystr(path)} does not say where on a mesh it lies. {inside}Give "
                "param_shardings, a NamedSharding for each parameter."
            )
        return home

    return jax.tree_util.tree_map_with_path(one, params)


def _given(who: str, params: Params, param_shardings: Any) -> Any:
    def is_one(x: Any) -> bool:
        return isinstance(x, (jax.sharding.Sharding, PartitionSpec))

    for path, x in jax.tree_util.tree_leaves_with_path(param_shardings, is_leaf=is_one):
        if not isinstance(x, NamedSharding):
            raise TypeError(
                f"{who}: param_shardings at {checks.keystr(path)} is {checks.shown(x)}. Give "
                'NamedSharding(mesh, PartitionSpec(...)), such as NamedSharding(mesh, P("data", None)).'
            )
    try:
        return jax.tree.broadcast(param_shardings, params, is_leaf=is_one)
    except ValueError:
        raise checks.tree_mismatch(who, "param_shardings", param_shardings, "params", params) from None


def axes_of(who: str, argument: str, mesh: Any, axes: Any) -> tuple[str, ...]:
    """Returns the names in `axes` as a tuple; raises unless all are axes of the mesh."""
    names = names_of(axes)
    for name in names:
        if name not in mesh.axis_names:
            known = ", ".join(map(repr, mesh.axis_names))
            raise ValueError(f"{who}: {argument} names {name!r}, but the axes of the mesh are {known}.")
    return names
