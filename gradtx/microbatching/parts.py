"""Splits the batch axis into two axes, the rows of a micro-batch and the micro-batches, also on meshes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from gradtx import checks, mesh

__all__ = ["axis_of", "joined", "parts_of", "placed", "reshape_batch_axis", "split"]


def _spec(x: Any) -> tuple[Any, ...]:
    """Returns the mesh axes that shard each axis of an array, on a mesh with explicit axes."""
    spec = tuple(mesh.place(x).spec)  # pyright: ignore[reportOptionalMemberAccess]
    return spec + (None,) * (len(x.shape) - len(spec))


def _reshaped(x: Array, shape: Sequence[int], spec: Any) -> Array:
    """Returns `x.reshape(shape)`; on a mesh with explicit axes, the result is sharded as in `spec`."""
    where = mesh.place(x)
    if where is None:
        return x.reshape(shape)
    return lax.reshape(x, x.reshape(shape).shape, out_sharding=NamedSharding(where.mesh, PartitionSpec(*spec)))


def split(x: Array, parts: int, axis: int) -> Array:
    """Splits the batch axis into (rows of a micro-batch, micro-batches); the first is sharded like the batch."""
    shape = *x.shape[:axis], x.shape[axis] // parts, parts, *x.shape[axis + 1 :]
    spec = mesh.place(x) and (*_spec(x)[: axis + 1], None, *_spec(x)[axis + 1 :])
    return _reshaped(x, shape, spec)


def reshape_batch_axis(tree: Any, microbatch_size: int, axis: int = 0) -> Any:
    """Splits the batch axis of every leaf into two axes, (micro-batches, rows), as `microbatch` does.

    Use it to arrange data for your own loop, or to see which rows `num_real_microbatches` leaves out: micro-batch `i`
    of `k` has the rows i, i + k, i + 2 k, ... On a mesh the new axis of rows is sharded like the batch axis was.

    Args:
      tree: A tree of arrays.
      microbatch_size: Number of rows of a micro-batch; it must divide the length of the batch axis.
      axis: The batch axis of every leaf. 0 by default.

    Returns:
      A tree of arrays with one more axis.

    Raises:
      TypeError: `microbatch_size` or `axis` is not an integer.
      ValueError: `microbatch_size` does not divide the batch, or a leaf has no such axis.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.microbatching.reshape_batch_axis(jnp.arange(6), 3))
    [[0 2 4]
     [1 3 5]]
    """
    who = "microbatching.reshape_batch_axis"
    size = checks.integer(who, "microbatch_size", microbatch_size, ge=1)

    def reshaped(x: Any) -> Array:
        place = axis_of(who, axis, x)
        return jnp.moveaxis(split(jnp.asarray(x), parts_of(who, np.shape(x)[place], size), place), place + 1, place)

    return jax.tree.map(reshaped, tree)


def axis_of(who: str, axis: Any, x: Any) -> int:
    """Returns the batch axis of an array, counted from 0."""
    axis, ndim = checks.integer(who, "the batch axis", axis, ge=-(2**31)), np.ndim(x)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{who}: the batch axis is {axis}, but an array of the batch has shape {np.shape(x)}.")
    return axis % ndim


def parts_of(who: str, rows: int, size: int) -> int:
    if rows % size or not rows:
        raise ValueError(
            f"{who}: the batch has {rows} rows, which is not divisible by microbatch_size={size} into one or more "
            "parts. Choose a divisor, or pad the batch and give the padding weight 0."
        )
    return rows // size


def placed(x: Array, like: Any, *, after_first: bool = False) -> Array:
    """Shards `x` like `like` on a mesh with explicit axes; with `after_first`, `x` has one more axis after axis 0."""
    where = getattr(like, "sharding", None)
    if not isinstance(where, NamedSharding) or not where.mesh.are_all_axes_explicit:
        return x
    spec = tuple(where.spec) + (None,) * (len(like.shape) - len(where.spec))
    spec = (*spec[:1], None, *spec[1:]) if after_first and like.shape else spec
    return mesh.put(x, NamedSharding(where.mesh, PartitionSpec(*spec)))


def joined(x: Array, rest: Sequence[int]) -> Array:
    """Merges the first two axes, (rows of a micro-batch, micro-batches), into the batch axis."""
    spec = mesh.place(x) and (*_spec(x)[:1], *_spec(x)[2:])
    return _reshaped(x, (-1, *rest), spec)
