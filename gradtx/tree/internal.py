"""What the engine asks of trees beyond `optax.tree`'s functions."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import leaf, mesh, sums

__all__ = ["leaves_of", "number", "raveled", "real_vdot", "scaled", "shrinking"]


def real_vdot(a: Any, b: Any) -> Array:
    """The real part of the inner product of two trees taken as vectors, in float32 or wider; it saturates.

    This is the inner product for gradients of complex parameters. For real trees it is `vdot`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.real_vdot({"a": jnp.array([3 + 4j])}, {"a": jnp.array([1 + 1j])}))
    7.0
    """
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [sums.real_parts(jnp.asarray(x), jnp.asarray(y)) for x, y in pairs if np.size(x)]
    return sums.dot([pair for both in pairs for pair in both])


def number(tree: Any, value: Any) -> Array:
    """A number that is kept once for a tree: real, and as wide as its widest leaf, float32 at least."""
    dtypes = [leaf.compute_dtype(jnp.result_type(x)) for x in jax.tree.leaves(tree)]
    return jnp.asarray(value, functools.reduce(jnp.promote_types, dtypes, np.dtype("float32")))


def raveled(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """The entries of all leaves as one vector in float32 or wider, and the function that makes such a tree of one.

    On a mesh with explicit axes each device has the whole vector, and the tree is split as the one given.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> x, restored = gx.tree.raveled({"a": jnp.ones(2), "b": 3.0})
    >>> print(x, restored(2 * x)["b"])
    [1. 1. 3.] 6.0
    """
    leaves, treedef = jax.tree.flatten(tree)
    shapes = [np.shape(x) for x in leaves]
    dtypes = [jnp.result_type(x) for x in leaves]
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    dtype = number(tree, 0).dtype
    flat = [jnp.ravel(mesh.whole(jnp.asarray(x))).astype(dtype) for x in leaves]
    places = [mesh.place(x) for x in leaves]

    def restored(x: Array) -> Any:
        parts = [x[a:b].reshape(shape) for (a, b), shape in zip(itertools.pairwise(ends), shapes, strict=True)]
        parts = [leaf.narrow(part, dtype) for part, dtype in zip(parts, dtypes, strict=True)]
        return treedef.unflatten([mesh.put(part, place) for part, place in zip(parts, places, strict=True)])

    return jnp.concatenate(flat) if flat else jnp.zeros(0, dtype), restored


def scaled(tree: Any, axes: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """`(s, n)` with `s * n` the norm, where `n` is finite even if the norm itself is not representable."""
    s, n = sums.scaled_norm(leaves_of(tree, axes), axes)
    return (s, n) if axes is None else (jnp.expand_dims(s, axes), jnp.expand_dims(n, axes))


def shrinking(tree: Any, radius: Any, axes: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Two factors whose product takes a tree to the nearest that is no longer than `radius`: 1 and 1 where it is short.

    Two, because the norm of a representable vector need not be representable, nor its inverse. With `axes` the tree is
    one array, and each part of it that these axes span is shrunk by itself. A NaN in the tree makes the product NaN.
    """
    leaves = leaves_of(tree, axes)
    if axes is None:
        return sums.shrinking(leaves, radius)
    first, second = sums.shrinking(leaves, jnp.squeeze(radius, axes), axes)
    return jnp.expand_dims(first, axes), jnp.expand_dims(second, axes)


def leaves_of(tree: Any, axes: tuple[int, ...] | None) -> list[Array]:
    """The leaves that a norm is of; the only one where it is taken over some axes."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    return [x for x in leaves if x.size] if axes is None else leaves
