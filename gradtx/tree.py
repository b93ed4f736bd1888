"""Arithmetic on trees of arrays."""

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

__all__ = ["finite", "nbytes", "norm", "norm_sq", "number", "raveled", "size", "vdot", "zeros_like"]


def size(tree: Any) -> int:
    """The number of entries of all leaves together (arrays or `jax.ShapeDtypeStruct`)."""
    return sum(math.prod(np.shape(x)) for x in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
    """The bytes that all leaves take together (arrays or `jax.ShapeDtypeStruct`).

    >>> import jax, gradtx as gx
    >>> params = {"w": jax.ShapeDtypeStruct((1000,), "float32")}
    >>> state = jax.eval_shape(gx.scale_by_adam().init, params)  # nothing is allocated
    >>> gx.tree.nbytes(state) / gx.tree.size(params)  # two moments, and one counter
    8.004
    """
    return sum(math.prod(np.shape(x)) * jnp.result_type(x).itemsize for x in jax.tree.leaves(tree))


def norm(tree: Any, axes: tuple[int, ...] | None = None) -> Array:
    """The Euclidean norm of all leaves taken as one vector: a scalar in float32 or wider.

    With `axes` the tree is one array, and the result has the norm over these axes, which it keeps with length 1.

    Right whenever the answer is representable: squares neither overflow nor underflow, 16-bit
    leaves are summed in float32, the empty tree has norm 0, and so has the derivative at 0.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm({"a": jnp.float16([300, 400]), "b": None}))
    500.0
    """
    found = sums.norm(_leaves(tree, axes), axes)
    return found if axes is None else jnp.expand_dims(found, axes)


def norm_sq(tree: Any) -> Array:
    """The squared norm of all leaves taken as one vector; beyond the dtype's largest number it is that number.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm_sq({"a": jnp.float16([300, 400])}))
    250000.0
    """
    return vdot(tree, tree)


@jax.jit
def finite(tree: Any) -> Array:
    """Whether every entry of every leaf is finite: a boolean scalar.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> bool(gx.tree.finite({"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}))
    False
    """
    return functools.reduce(jnp.logical_and, [_finite(jnp.asarray(x)) for x in jax.tree.leaves(tree)], jnp.array(True))


def _finite(x: Array) -> Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.array(True)
    if x.dtype.itemsize < 2:
        return jnp.all(jnp.isfinite(x))
    # x - x is 0 for finite x and NaN for all others: one sum, where a test of every entry would be kept as an array.
    return jnp.isfinite(jnp.sum(leaf.widen(x - x)))


@jax.jit
def zeros_like(tree: Any) -> Any:
    """The tree with zeros in place of its entries."""
    return jax.tree.map(mesh.zeros_like, tree)


def vdot(a: Any, b: Any) -> Array:
    """The real part of the inner product of two trees taken as vectors, in float32 or wider; it saturates.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.vdot({"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}))
    3.0
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
    s, n = sums.scaled_norm(_leaves(tree, axes), axes)
    return (s, n) if axes is None else (jnp.expand_dims(s, axes), jnp.expand_dims(n, axes))


def shrinking(tree: Any, radius: Any, axes: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Two factors whose product takes a tree to the nearest that is no longer than `radius`: 1 and 1 where it is short.

    Two, because the norm of a representable vector need not be representable, nor its inverse. With `axes` the tree is
    one array, and each part of it that these axes span is shrunk by itself. A NaN in the tree makes the product NaN.
    """
    leaves = _leaves(tree, axes)
    if axes is None:
        return sums.shrinking(leaves, radius)
    first, second = sums.shrinking(leaves, jnp.squeeze(radius, axes), axes)
    return jnp.expand_dims(first, axes), jnp.expand_dims(second, axes)


def _leaves(tree: Any, axes: tuple[int, ...] | None) -> list[Array]:
    """The leaves that a norm is of; the only one where it is taken over some axes."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    return [x for x in leaves if x.size] if axes is None else leaves
