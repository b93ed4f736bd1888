"""Functions of trees that the engine needs beyond those of `optax.tree`."""

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
    """Computes the real part of the inner product of two trees, treated as vectors.

    This is the inner product for gradients of complex parameters. For real trees it equals `vdot`. It saturates at
    the dtype's largest number instead of overflowing.

    Args:
      a: A tree of arrays, conjugated in the product.
      b: A tree of arrays with the same structure and shapes.

    Returns:
      A real scalar in float32 or wider.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.real_vdot({"a": jnp.array([3 + 4j])}, {"a": jnp.array([1 + 1j])}))
    7.0
    """
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [sums.real_parts(jnp.asarray(x), jnp.asarray(y)) for x, y in pairs if np.size(x)]
    return sums.dot([pair for both in pairs for pair in both])


def number(tree: Any, value: Any) -> Array:
    """Returns a number as a real array that is as wide as the widest leaf of a tree, at least float32.

    Args:
      tree: A tree of arrays, of which only the dtypes matter.
      value: The number.
    """
    dtypes = [leaf.compute_dtype(jnp.result_type(x)) for x in jax.tree.leaves(tree)]
    return jnp.asarray(value, functools.reduce(jnp.promote_types, dtypes, np.dtype("float32")))


def raveled(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """Concatenates all leaves of a tree to one vector, and returns a function that undoes it.

    On a mesh with explicit axes each device gets the whole vector, and the function splits a tree as the original.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      The vector in float32 or wider, and a function from such a vector to a tree like `tree`.

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
    """Returns `(s, n)` with `s * n` the norm, where `n` is finite even if the norm itself overflows or underflows."""
    s, n = sums.scaled_norm(leaves_of(tree, axes), axes)
    return (s, n) if axes is None else (jnp.expand_dims(s, axes), jnp.expand_dims(n, axes))


def shrinking(tree: Any, radius: Any, axes: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """Returns two factors whose product shrinks a tree to a norm of at most `radius`; 1 and 1 if it is short enough.

    There are two because the norm of a vector, or the inverse of the norm, may overflow or underflow. With `axes`
    the tree is one array, and each part of it along these axes is shrunk separately. A NaN in the tree makes the
    product NaN.
    """
    leaves = leaves_of(tree, axes)
    if axes is None:
        return sums.shrinking(leaves, radius)
    first, second = sums.shrinking(leaves, jnp.squeeze(radius, axes), axes)
    return jnp.expand_dims(first, axes), jnp.expand_dims(second, axes)


def leaves_of(tree: Any, axes: tuple[int, ...] | None) -> list[Array]:
    """Returns the leaves of which to take a norm; with `axes`, the only leaf."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    return [x for x in leaves if x.size] if axes is None else leaves
