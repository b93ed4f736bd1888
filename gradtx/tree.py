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
from jax import Array, lax

from gradtx import leaf

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


def norm(tree: Any) -> Array:
    """The Euclidean norm of all leaves taken as one vector: a scalar in float32 or wider.

    Right whenever the answer is representable: squares neither overflow nor underflow, 16-bit
    leaves are summed in float32, the empty tree has norm 0, and so has the derivative at 0.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm({"a": jnp.float16([300, 400]), "b": None}))
    500.0
    """
    scale, scaled_norm = scaled(tree)
    return scale * scaled_norm


def norm_sq(tree: Any) -> Array:
    """The squared norm of all leaves taken as one vector; beyond the dtype's largest number it is that number.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm_sq({"a": jnp.float16([300, 400])}))
    250000.0
    """
    n = norm(tree)
    return leaf.saturated(n * n)


@jax.jit
def finite(tree: Any) -> Array:
    """Whether every entry of every leaf is finite: a boolean scalar.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> bool(gx.tree.finite({"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}))
    False
    """
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)], jnp.array(True))


@jax.jit
def zeros_like(tree: Any) -> Any:
    """The tree with zeros in place of its entries."""
    return jax.tree.map(jnp.zeros_like, tree)


def vdot(a: Any, b: Any) -> Array:
    """The real part of the inner product of two trees taken as vectors, in float32 or wider; it saturates.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.vdot({"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}))
    3.0
    """
    pairs = [
        (leaf.widen(jnp.asarray(x)), leaf.widen(jnp.asarray(y)))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if np.size(x)
    ]
    if not pairs:
        return jnp.zeros(())

    def total(scale: float) -> Array:
        products = [jnp.sum((jnp.conj(_times(x, scale)) * _times(y, scale)).real) for x, y in pairs]
        return functools.reduce(lax.add, [x.astype(jnp.result_type(*products)) for x in products])

    plain = total(1)
    info = jnp.finfo(plain.dtype)
    # A sum that overflows on the way is taken again of smaller terms, so that what cancels may cancel.
    small = 2.0 ** (-info.maxexp // 2 - 8)
    exact = lax.cond(jnp.isfinite(plain), lambda: plain, lambda: total(small) / small / small)
    return jnp.clip(exact, -float(info.max), float(info.max))


def number(tree: Any, value: Any) -> Array:
    """A number that is kept once for a tree: real, and as wide as its widest leaf, float32 at least."""
    dtypes = [leaf.compute_dtype(jnp.result_type(x)) for x in jax.tree.leaves(tree)]
    return jnp.asarray(value, functools.reduce(jnp.promote_types, dtypes, np.dtype("float32")))


def raveled(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """The entries of all leaves as one vector in float32 or wider, and the function that makes such a tree of one.

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
    flat = [jnp.ravel(jnp.asarray(x)).astype(dtype) for x in leaves]

    def restored(x: Array) -> Any:
        places = zip(itertools.pairwise(ends), shapes, dtypes, strict=True)
        return treedef.unflatten([leaf.narrow(x[a:b].reshape(shape), dtype) for (a, b), shape, dtype in places])

    return jnp.concatenate(flat) if flat else jnp.zeros(0, dtype), restored


def scaled(tree: Any) -> tuple[Array, Array]:
    """`(s, n)` with `s * n` the norm, where `n` is finite even if the norm itself is not representable.

    `s` is 1 and the sum of squares is taken once, unless that sum leaves the range in which it
    is exact to rounding; only then the leaves are read again, multiplied by 1 / s.
    """
    leaves = [leaf.widen(jnp.asarray(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    leaves = _gathered(leaves)
    if not leaves:
        return jnp.ones(()), jnp.zeros(())
    plain = _sum_sq(leaves)
    info = jnp.finfo(plain.dtype)
    # Above `low`, terms that underflowed cannot add up to a rounding error of the sum.
    low = float(info.tiny) / float(info.eps) * 2.0**33
    exact = (plain > low) & (plain < float(info.max))
    # A power of two that brings the squares of large entries, or of small ones, into range.
    far = 2.0 ** (5 * info.maxexp // 8)
    scale = jnp.where(exact, 1, jnp.where(plain < 1, 1 / far, far)).astype(plain.dtype)
    total = lax.cond(exact, lambda: plain, lambda: _sum_sq([_times(x, 1 / scale) for x in leaves]))
    positive = total > 0
    return scale, jnp.where(positive, jnp.sqrt(jnp.where(positive, total, 1)), total)  # NaN stays NaN


def shrinking(tree: Any, radius: Any) -> tuple[Array, Array, Array]:
    """Whether a tree is no longer than `radius`, and two factors whose product takes it to the nearest that is not.

    Two, because the norm of a representable vector need not be representable, nor its inverse.
    A vector with a NaN gets a NaN, so that it is not taken for a short one.
    """
    scale, norm = scaled(tree)
    short = norm <= radius / scale
    return short, jnp.where(short, 1, 1 / scale), jnp.where(short, 1, radius / jnp.where(short, 1, norm))


def _times(x: Array, factor: Array | float) -> Array:
    """The product x * factor, where (x * factor)^2 must not be computed as x^2 * factor^2.

    XLA does that where it knows the factor when compiling, and the selection keeps it from it.
    """
    return jnp.where(jnp.isfinite(x), x * factor, x)


def _sum_sq(leaves: list[Array]) -> Array:
    sums = [leaf.sum_sq(x) for x in leaves]
    dtype = jnp.result_type(*sums)
    return functools.reduce(lax.add, [x.astype(dtype) for x in sums])


def _gathered(leaves: list[Array]) -> list[Array]:
    """The leaves, with all the small ones in one vector: one reduction instead of a thousand."""
    small = [x for x in leaves if x.size <= _SMALL]
    if len(small) < 2:
        return leaves
    return [x for x in leaves if x.size > _SMALL] + [jnp.concatenate([jnp.ravel(x) for x in small])]


_SMALL = 2**12
