"""Arrays on a mesh of devices, where the placement of an array may be a part of its type.

- An axis of a mesh may be *explicit*. Then the type of an array contains its sharding, and an operation whose result
  could be sharded in several ways raises an error. `automatic` leaves the choice to the compiler, as for other axes,
  and prescribes only the shardings of the results. `whole` gives each device the whole array.
- Inside `shard_map`, types say over which axes of the mesh an array *varies* from shard to shard, and a loop must not
  change that for its carry. The loops here find out what varies before they begin.

Without either, all these functions do what `jax.lax` does, and add nothing to the program.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from gradtx.types import Params

__all__ = [
    "added",
    "along",
    "as_varying_as",
    "as_vector",
    "automatic",
    "cond",
    "divided",
    "everywhere",
    "explicit",
    "extreme",
    "follows",
    "fori_loop",
    "kept_whole",
    "names_of",
    "place",
    "places_like",
    "put",
    "scan",
    "split_like",
    "summed_over",
    "together",
    "united",
    "varying",
    "varying_axes",
    "varying_with",
    "while_loop",
    "whole",
    "workers",
]


def along(x: Array, p: Any, axes: Sequence[int | None]) -> Array:
    """Shards `x` like `p`: `axes` has for each axis of `x` the axis of `p` whose split it takes, or None for no split.

    In traced code the sharding of `p` is known only for explicit mesh axes; without them `x` is returned unchanged.
    """
    traced = isinstance(x, Tracer) or isinstance(p, Tracer)
    sharding = place(p) if traced else getattr(p, "sharding", None)
    if isinstance(sharding, SingleDeviceSharding) and p.committed:
        return jax.device_put(x, sharding)
    if not isinstance(sharding, NamedSharding):
        return x
    split: dict[int | None, Any] = dict(enumerate(sharding.spec))
    spec = [split.get(axis) for axis in axes]
    while spec and spec[-1] is None and AxisType.Explicit not in sharding.mesh.axis_types:
        spec.pop()  # compiled programs write placements this way; otherwise a step would be compiled again
    there = NamedSharding(sharding.mesh, PartitionSpec(*spec))
    return jax.sharding.reshard(x, there) if traced else jax.device_put(x, there)


def everywhere(tree: Any, params: Params) -> Any:
    """Places the arrays of a tree whole on each device that has a part of the parameters."""
    leaves = jax.tree.leaves(params)
    home = next((p for p in leaves if explicit(p) or isinstance(getattr(p, "sharding", None), NamedSharding)), None)
    home = leaves[0] if home is None and leaves else home
    return tree if home is None else jax.tree.map(lambda x: along(x, home, (None,) * x.ndim), tree)


def follows(part: Any, x: Any) -> list[int | None]:
    """Returns for each axis of a part of `x` the axis of `x` that it follows: its own, if the devices divide its
    length.
    """
    there = place(x) if isinstance(x, Tracer) else getattr(x, "sharding", None)
    if part.ndim != x.ndim or not isinstance(there, NamedSharding):
        return [None] * part.ndim
    ways = [math.prod(there.mesh.shape[name] for name in names_of(names)) for names in there.spec]
    ways += [1] * (x.ndim - len(ways))
    return [axis if n % ways[axis] == 0 else None for axis, n in enumerate(part.shape)]


def places_like(parts: Any, x: Any) -> Any:
    """Returns where the parts of `x` belong on a mesh with explicit axes; the parts themselves if there is none."""
    where = place(x)
    if where is None:
        return parts

    def one(part: Any) -> Any:
        spec = [where.spec[axis] if axis is not None else None for axis in follows(part, x)]
        return NamedSharding(where.mesh, PartitionSpec(*spec))

    return jax.tree.map(one, parts)


# --- explicit axes


def explicit(tree: Any) -> Any:
    """Returns the mesh of the arrays in a tree if it has explicit axes, else None."""
    for x in jax.tree.leaves(tree):
        mesh = jax.typeof(x).sharding.mesh if isinstance(x, Array) else None
        if mesh is not None and AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def place(x: Any) -> NamedSharding | None:
    """Returns the placement of an array according to its type: None unless it is on a mesh with explicit axes."""
    if isinstance(x, NamedSharding):
        return x
    mesh = explicit(x)
    return None if mesh is None else NamedSharding(mesh, jax.typeof(x).sharding.spec)


def as_vector(leaves: Sequence[Array]) -> NamedSharding | None:
    """Returns the placement for one vector of all entries: split over every axis that splits a leaf, or whole if
    impossible.
    """
    mesh = explicit(leaves)
    if mesh is None:
        return None
    names = {name for x in leaves for part in jax.typeof(x).sharding.spec for name in names_of(part)}
    axes = tuple(name for name in mesh.axis_names if name in names)
    ways, size = math.prod(mesh.shape[name] for name in axes), sum(x.size for x in leaves)
    return NamedSharding(mesh, PartitionSpec(axes) if axes and size % ways == 0 else PartitionSpec())


def names_of(part: Any) -> tuple[str, ...]:
    """Returns the axes of a mesh that split one axis of an array, as `PartitionSpec` writes them."""
    return () if part is None else (part,) if isinstance(part, str) else tuple(part)


def automatic(function: Callable[..., Any], *args: Any, like: Any) -> Any:
    """Calls `function(*args)` with the explicit axes of a mesh left to the compiler.

    The results are placed like the arrays in `like`, a tree of the same structure. Results for which it has no
    array, such as numbers, are whole on each device.
    """
    mesh = explicit((args, like))
    if mesh is None:
        return function(*args)
    replicated = NamedSharding(mesh, PartitionSpec())
    places = jax.tree.map(lambda x: place(x) or replicated, like)
    axes = tuple(name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit)
    return jax.sharding.auto_axes(function, axes=axes, out_sharding=places)(*args)


def whole(x: Array, axes: Sequence[int] | None = None) -> Array:
    """Returns the array, whole on each device; with `axes` these are whole, and the others stay split."""
    where = place(x)
    if where is None:
        return x
    kept = [] if axes is None else [None if i - x.ndim in axes else name for i, name in enumerate(where.spec)]
    return put(x, NamedSharding(where.mesh, PartitionSpec(*kept)))


def kept_whole(x: Array, axes: Sequence[int] | None = None) -> Array:
    """Returns the array, whole on each device (or along these axes), for explicit and other axes of the mesh."""
    mesh = jax.typeof(x).sharding.mesh
    if not isinstance(x, Tracer) or set(mesh.axis_types) != {AxisType.Auto}:
        return whole(x, axes)
    spec = [] if axes is None else [None if i - x.ndim in axes else PartitionSpec.UNCONSTRAINED for i in range(x.ndim)]
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))


def split_like(x: Any, like: Any) -> Any:
    """Gives a tree of arrays the shardings of `like`, a tree of the same structure, on automatic mesh axes.

    The compiler usually propagates shardings by itself, but not through a bitcast to a different dtype.
    """

    def one(x: Array, like: Array) -> Array:
        if not isinstance(like, Tracer) or set(jax.typeof(like).sharding.mesh.axis_types) != {AxisType.Auto}:
            return x
        from jax.experimental.shard_alike import shard_alike  # its import takes time, which few programs need to spend

        return shard_alike(x, like)[0]

    return jax.tree.map(one, x, like)


def put(x: Array, where: NamedSharding | None) -> Array:
    """Moves the array to a placement; None leaves it where it is."""
    return x if where is None or place(x) == where else jax.sharding.reshard(x, where)


def full_like(x: Any, value: Any, dtype: Any = None) -> Array:
    """Returns an array of one value, placed like `x`. From jax 0.12 on, `jnp.full_like` returns a whole one within
    `jit`.
    """
    return put(jnp.full_like(x, value, dtype=dtype), place(x))


# --- work on stacks of matrices, shared among devices

workers = jax.make_user_context(None)
"""`with workers(where):` stacks of matrices are divided among the devices along the first axis of this sharding.

JAX keeps what is traced in it apart from what is traced elsewhere. `gx.sharding.update` is for users.
"""


def divided(tree: Any) -> Any:
    """Divides stacks of matrices among the `workers` along the first axis, padded with copies of the first matrix."""
    where = workers.value
    if where is None:
        return tree
    here = jax.sharding.get_abstract_mesh()
    places = NamedSharding(where.mesh if here.empty else here, where.spec)
    ways = math.prod(where.mesh.shape[name] for name in names_of(where.spec[0]))

    def one(x: Array) -> Array:
        more = -len(x) % ways
        x = jnp.concatenate([x, jnp.broadcast_to(x[:1], (more, *x.shape[1:]))]) if more else x
        return lax.with_sharding_constraint(x, places)

    return jax.tree.map(one, tree)


def united(tree: Any, n: int) -> Any:
    """Returns the first `n` matrices of each stack, without the padding of `divided`."""
    return tree if workers.value is None else jax.tree.map(lambda x: x[:n], tree)


# --- the shards of a mesh


def varying_axes(x: Any) -> frozenset[str]:
    """Returns the axes of the mesh over which `x`, an array or its abstract value, differs from shard to shard."""
    kind = getattr(jax.typeof(x) if isinstance(x, Array) else x, "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def varying(tree: Any, axes: list[frozenset[str]]) -> Any:
    """Returns the tree with leaves that also vary over these axes, a set for each leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([_vary(x, wanted) for x, wanted in zip(leaves, axes, strict=True)])


def as_varying_as(x: Any, like: Any) -> Any:
    """Returns an array that also varies over the axes of `like`."""
    return _vary(x, varying_axes(like))


def varying_with(function: Callable[[Any], Any], tree: Any) -> Any:
    """Returns the tree, varying over all axes over which `function(tree)` varies.

    Then each shard has its own function with its own derivatives. By the rules of `shard_map`, derivatives with
    respect to values that are the same on all shards would be summed over the shards.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    found = jax.tree.leaves(jax.eval_shape(lambda: function(tree)))
    axes = frozenset().union(*map(varying_axes, found))
    return varying(tree, [axes] * len(jax.tree.leaves(tree)))


def cond(pred: Array, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Like `jax.lax.cond`, but the two results may vary over different axes."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return lax.cond(pred, then, otherwise)
    both = zip(jax.tree.leaves(jax.eval_shape(then)), jax.tree.leaves(jax.eval_shape(otherwise)), strict=True)
    axes = [varying_axes(pred) | varying_axes(a) | varying_axes(b) for a, b in both]
    return lax.cond(pred, lambda: varying(then(), axes), lambda: varying(otherwise(), axes))


def while_loop(go_on: Callable[[Any], Array], body: Callable[[Any], Any], init: Any) -> Any:
    """Like `jax.lax.while_loop`, but the carry may begin the same on all shards, and then differ."""
    init, axes = _carried(body, init, go_on)
    return lax.while_loop(go_on, lambda carry: varying(body(carry), axes) if axes else body(carry), init)


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """Like `jax.lax.fori_loop`, but the carry may begin the same on all shards, and then differ."""
    init, axes = _carried(lambda carry: body(lower, carry), init)
    return lax.fori_loop(lower, upper, lambda i, c: varying(body(i, c), axes) if axes else body(i, c), init)


def scan(body: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, *, reverse: bool = False) -> Any:
    """Like `jax.lax.scan`, but the carry may begin the same on all shards, and then differ."""
    init, axes = _carried(lambda carry: body(carry, jax.tree.map(lambda x: x[0], xs))[0], init)

    def step(carry: Any, x: Any) -> Any:
        carry, y = body(carry, x)
        return varying(carry, axes) if axes else carry, y

    return lax.scan(step, init, xs, reverse=reverse)


def _carried(body: Callable[[Any], Any], init: Any, go_on: Callable[[Any], Any] | None = None) -> tuple[Any, Any]:
    """Returns the first carry of a loop, and the axes over which each leaf varies; [] outside of `shard_map`."""
    mesh = explicit(init)
    if mesh is not None:  # also numbers from elsewhere, which vmap may split
        replicated = NamedSharding(mesh, PartitionSpec())
        init = jax.tree.map(lambda x: x if explicit(x) else put(x, replicated), init)
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return init, []
    axes = [varying_axes(x) for x in jax.tree.leaves(init)]
    while True:
        init = varying(init, axes)
        after = [varying_axes(x) for x in jax.tree.leaves(jax.eval_shape(lambda init=init: body(init)))]
        all_ = varying_axes(jax.eval_shape(lambda init=init: go_on(init))) if go_on else frozenset()
        found = [old | new | all_ for old, new in zip(axes, after, strict=True)]
        if found == axes:
            return init, axes
        axes = found


# --- the shards of one tree

together = jax.make_user_context(frozenset())
"""`with together(names):` sums over leaves are sums over their shards, too, where a leaf is split over these axes.

JAX keeps what is traced in it apart from what is traced elsewhere. `gx.sharding.over` is for users.
"""


def summed_over(x: Any) -> tuple[str, ...]:
    """Returns the mesh axes over whose shards a scalar of this leaf must be summed; () outside of `together`."""
    return tuple(sorted(together.value & varying_axes(x))) if together.value else ()


def added(terms: Sequence[Sequence[Array]]) -> list[Array]:
    """Adds up tuples of scalars, one tuple for each leaf, elementwise; inside `together` also over the shards.

    Tuples of leaves that are split over the same axes are added up first, so each set of axes needs one `psum`.
    """
    groups: dict[tuple[str, ...], list[Sequence[Array]]] = {}
    for item in terms:
        groups.setdefault(summed_over(item[0]), []).append(item)
    sums: list[Sequence[Array]] = []
    for names, items in groups.items():
        found = [functools.reduce(lax.add, place) for place in zip(*items, strict=True)]
        sums.append(lax.psum(found, names) if names else found)
    return [functools.reduce(jnp.add, place) for place in zip(*sums, strict=True)]


def extreme(x: Array, *, largest: bool) -> Array:
    """Returns the largest or smallest value of a scalar over the shards; outside of `together` the scalar itself."""
    names = summed_over(x)
    return (lax.pmax if largest else lax.pmin)(x, names) if names else x


def _vary(x: Any, axes: frozenset[str]) -> Any:
    missing = tuple(sorted(axes - varying_axes(x)))
    return lax.pcast(x, missing, to="varying") if missing else x
