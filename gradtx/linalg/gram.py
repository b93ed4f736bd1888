"""Products of matrices with their adjoints, which a preconditioner sums.

They name the axis that is summed over, because XLA on the CPU would write out the transpose of a tall matrix.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

__all__ = ["gram_of_columns", "gram_of_rows", "kept_if_finite"]


def gram_of_rows(x: Array) -> Array:
    """Returns X X^H for matrices (..., m, n)."""
    return jnp.einsum("...ik,...jk->...ij", x, x.conj(), precision=lax.Precision.HIGHEST)


def gram_of_columns(x: Array) -> Array:
    """Returns X^H X for matrices (..., m, n)."""
    return jnp.einsum("...ki,...kj->...ij", x.conj(), x, precision=lax.Precision.HIGHEST)


def kept_if_finite(new: Array, old: Array) -> Array:
    """Returns for each of the matrices (..., n, n) the new one if it is finite, else the old one."""
    return jnp.where(jnp.all(jnp.isfinite(new), axis=(-2, -1), keepdims=True), new, old)
