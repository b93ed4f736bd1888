"""Orthogonal gradients: the part of a gradient that is orthogonal to the weights, as long as the gradient was.

    o = g - <w, g> / <w, w> * w
    u = o * |g| / |o|                      for every tensor

Prieto, Barsbey, Mediano and Birdal, 2025, "Grokking at the Edge of Numerical Stability", where it keeps weights from
growing along themselves. A gradient along the weights, but for rounding, becomes zero. Of complex tensors the inner
product is the complex one.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import tree
from gradtx.core.leafwise import Layerwise
from gradtx.types import Slots

__all__ = ["orthograd"]


class orthograd(Layerwise, needs=("params",)):
    """Removes from every gradient what is parallel to its weights, and keeps the gradient's norm.

    It comes before a method: `chain(orthograd(), adamw(1e-3))`. `update` needs params. A leaf of weights that are zero
    keeps its gradient.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.orthograd()
    >>> g, p = jnp.array([3.0, 4.0]), jnp.array([2.0, 0.0])
    >>> print(tx.update(g, tx.init(p), p)[0])
    [0. 5.]
    """

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        (w, *_), (direction, unit, size) = _direction(p), _direction(g)
        rest = direction - w * jnp.sum(w.conj() * direction)
        square = jnp.sum((rest * rest.conj()).real)
        some = jnp.sqrt(square) > 4 * jnp.finfo(g.dtype).eps
        u = rest * jnp.where(some, size / jnp.sqrt(jnp.where(some, square, 1)), 0) * unit
        return u, slots


def _direction(x: Array) -> tuple[Array, Array, Array]:
    """`x` with norm 1, and two factors of its norm: the norm itself may not be representable. Zeros stay zeros."""
    unit, size = tree.scaled(x)
    return x / unit / jnp.where(size == 0, 1, size), unit, size
