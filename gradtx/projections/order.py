"""Isotonic regression: projections onto the ordered vectors and onto the ordered vectors in the simplex.

    projection_monotone          p_1 <= p_2 <= ... <= p_n
    projection_ordered_simplex   p_1 <= p_2 <= ... <= p_n,  p >= 0 and sum p = scale

The nearest ordered vector is constant on blocks of entries, and its value on a block is the mean of x over the block.
The pool adjacent violators algorithm goes through the entries once and joins the last two blocks while their means are
out of order (Ayer, Brunk, Ewing, Reid and Silverman, 1955, "An empirical distribution function for sampling with
incomplete information"). It takes 2 n small sequential steps. The derivative averages over the same blocks.

For the ordered simplex, x is first projected onto the ordered vectors, and the result y onto the simplex. This gives
the nearest point, because the threshold max(y - t, 0) only joins blocks of y, so the multipliers of both projections
together satisfy the optimality conditions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import mesh
from gradtx.projections.simplex import on_simplex
from gradtx.projections.vector import number, unit, vector

__all__ = ["block_means", "blocks", "projection_monotone", "projection_ordered_simplex"]


def projection_monotone(tree: Any, increasing: bool = True) -> Any:
    """Projects onto the vectors whose entries increase (or decrease). This is isotonic regression.

    Args:
      tree: The tree to project, treated as one vector in the order of its leaves. Leaves must be real.
      increasing: Whether entries increase (True, the default) or decrease. Equal neighbours are allowed.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_monotone(jnp.array([1.0, 3.0, 2.0, 4.0])))
    [1.  2.5 2.5 4. ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
    """
    x, restored = vector("projection_monotone", tree)
    return restored(_ordered(x, increasing))


def projection_ordered_simplex(tree: Any, scale: ArrayLike = 1, increasing: bool = True) -> Any:
    """Projects onto the ordered vectors in the simplex: ordered, nonnegative entries that sum to `scale`.

    Args:
      tree: The tree to project, treated as one vector in the order of its leaves. Leaves must be real.
      scale: The sum of all entries. Not negative; 1 by default.
      increasing: Whether entries increase (True, the default) or decrease. Equal neighbours are allowed.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_ordered_simplex(jnp.array([0.5, 0.25, 1.0])))
    [0.125 0.125 0.75 ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `scale` is negative or not a scalar.
    """
    who = "projection_ordered_simplex"
    x, restored = vector(who, tree)
    return restored(on_simplex(_ordered(x, increasing), number(who, "scale", scale, x.dtype)))


@partial(jax.jit, static_argnums=1)
def _ordered(x: Array, increasing: bool) -> Array:
    if x.size < 2:
        return x
    scale = unit(x)
    y = x / scale
    return scale * (_isotonic(y) if increasing else _isotonic(y[::-1])[::-1])


@jax.custom_jvp
@jax.jit
def _isotonic(x: Array) -> Array:
    n = x.size

    def step(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        taken, top, means, counts = carry
        last, before = means[top], means[jnp.maximum(top - 1, 0)]
        joins = (top > 0) & (before >= last)
        takes = ~joins & (taken < n)
        size, size_before = counts[top], counts[jnp.maximum(top - 1, 0)]
        total = jnp.where(joins, size_before + size, jnp.where(takes, 1, size))
        joined = before + (last - before) * (size / total).astype(x.dtype)
        mean = jnp.where(joins, joined, jnp.where(takes, x[jnp.minimum(taken, n - 1)], last))
        top = top - joins + takes
        return taken + takes, top, means.at[top].set(mean), counts.at[top].set(total)

    one = jnp.ones((), jnp.int32)
    carry = (one, 0 * one, jnp.zeros_like(x).at[0].set(x[0]), jnp.zeros(n, jnp.int32).at[0].set(1))
    _, top, _, counts = mesh.fori_loop(0, 2 * n, step, carry)
    counts = jnp.where(jnp.arange(n) < top, counts, 0)  # sizes of all blocks except the last
    ends = jnp.where(counts > 0, jnp.cumsum(counts), n)
    ids = jnp.cumsum(jnp.zeros(n, jnp.int32).at[ends].add(1, mode="drop"))
    return lax.cummax(block_means(x, ids))  # removes rounding errors that break the order


@_isotonic.defjvp
def _isotonic_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    p = _isotonic(*primals)
    return p, block_means(tangents[0], blocks(p))


def blocks(p: Array) -> Array:
    """Returns the index of each entry's block; a block is a run of equal neighbours."""
    return jnp.cumsum(jnp.concatenate([jnp.zeros(1, jnp.int32), (p[1:] != p[:-1]).astype(jnp.int32)]))


def block_means(x: Array, ids: Array) -> Array:
    """Replaces every entry by the mean of its block."""
    total = jax.ops.segment_sum(x, ids, x.size, indices_are_sorted=True)
    count = jax.ops.segment_sum(jnp.ones_like(x), ids, x.size, indices_are_sorted=True)
    return (total / jnp.maximum(count, 1))[ids]
