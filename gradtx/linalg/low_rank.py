"""Helpers of methods with projected gradients: matrices by their shorter side, and a bound on the growth of updates.

    x <- x * min(1, growth * |last x| / |x|)

Chen et al., 2024, "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?", section 4.2. There,
and in code based on it, the updates after an x of zeros can only grow from 1e-8 on. Here an x of zeros sets no
bound.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree

__all__ = ["limited_growth", "wide"]


def wide(x: Array) -> Array:
    """Transposes matrices (..., m, n) unless m < n, so that rows are the shorter side."""
    return x if x.shape[-2] < x.shape[-1] else jnp.swapaxes(x, -1, -2)


def limited_growth(x: Array, last: Array, growth: Any) -> tuple[Array, Array]:
    """Shrinks matrices to at most `growth` times their last norm, and returns them and their norms.

    A last norm of 0 stands for no last update.
    """
    size = leaf.saturated(tree.norm(x, axes=(x.ndim - 2, x.ndim - 1)))[..., 0, 0]
    most = leaf.saturated(last * growth)
    long = (last > 0) & (size > most)
    shrink = jnp.where(long, most / jnp.where(long, size, 1), 1)
    return x * shrink[..., None, None], jnp.where(long, most, jnp.where(size > 0, size, last))
