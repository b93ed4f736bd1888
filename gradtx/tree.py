"""Arithmetic on trees of arrays."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import leaf

__all__ = ["nbytes", "norm", "size"]


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


def scaled(tree: Any) -> tuple[Array, Array]:
    """`(s, n)` with `s * n` the norm, where `n` is finite even if the norm itself is not representable.

    `s` is 1 and the sum of squares is taken once, unless that sum leaves the range in which it
    is exact to rounding; only then the leaves are read again, divided by their largest entry.
    """
    leaves = [leaf.widen(jnp.asarray(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    if not leaves:
        return jnp.ones(()), jnp.zeros(())
    plain = sum(map(leaf.sum_sq, leaves[1:]), leaf.sum_sq(leaves[0]))
    info = jnp.finfo(plain.dtype)
    # Above `low`, terms that underflowed cannot add up to a rounding error of the sum.
    low = float(info.tiny) / float(info.eps) * 2.0**33
    exact = (plain > low) & (plain < float(info.max))

    def once(leaves: list[Array]) -> tuple[Array, Array]:
        del leaves
        return jnp.ones_like(plain), leaf.sqrt(plain)

    def again(leaves: list[Array]) -> tuple[Array, Array]:
        largest = jax.lax.stop_gradient(jnp.max(jnp.stack([_largest(x).astype(plain.dtype) for x in leaves])))
        # A factor of 2^10 on the inside keeps the scale's inverse from being subnormal.
        scale = jnp.where(largest > 1, largest / 1024, largest * 1024)
        scale = jnp.where((largest > 0) & (largest < jnp.inf), scale, 1)
        return scale, leaf.sqrt(sum(leaf.sum_sq(x / scale) for x in leaves))

    return jax.lax.cond(exact, once, again, leaves)


def _largest(x: Array) -> Array:
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.max(jnp.abs(x.real)), jnp.max(jnp.abs(x.imag)))
    return jnp.max(jnp.abs(x))
