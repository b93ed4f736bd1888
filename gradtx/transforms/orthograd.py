"""Orthogonal gradients: removes the component along the weights and restores the gradient's norm.

    o = g - <w, g> / <w, w> * w
    u = o * |g| / |o|                      for every tensor

Prieto, Barsbey, Mediano and Birdal, 2025, "Grokking at the Edge of Numerical Stability". The authors use it to keep
weights from growing along their own direction. A gradient that is parallel to the weights up to rounding becomes zero.
Complex tensors use the complex inner product.
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
    """Removes from each gradient the component parallel to the weights, and restores the gradient's norm.

    Put it before the optimizer: `chain(orthograd(), adamw(1e-3))`. It helps when a classifier already fits its training
    data and training only scales up the weights, which delays generalization ("grokking"). A leaf whose weights are all
    zero keeps its gradient.

        o = g - <w, g> / <w, w> * w,     u = o * |g| / |o|

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    References:
      Prieto, Barsbey, Mediano and Birdal, 2025, "Grokking at the Edge of Numerical Stability".

    Example:
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
    """Returns `x` scaled to norm 1, and its norm as two factors, whose product may overflow. Zeros stay zeros."""
    unit, size = tree.scaled(x)
    return x / unit / jnp.where(size == 0, 1, size), unit, size
