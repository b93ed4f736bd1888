"""Fromage: every layer moves by a fixed fraction of its norm, and is shrunk so that it does not grow.

    x_(t+1) = (x_t - eta * g * |x_t| / |g|) / sqrt(1 + eta^2)      for every leaf

Bernstein et al., 2020, "On the distance between two neural networks and the stability of learning", algorithm 1.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.optimizers.layerwise.lars import scale_by_trust_ratio
from gradtx.types import Slots

__all__ = ["fromage"]


class fromage(Layerwise, needs=("params",)):
    """Fromage. State: none. `update` needs params.

    `learning_rate` is not negative (0.01 in the paper); norms count as `min_norm` (default 1e-6) at least.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.fromage(1.0)
    >>> g, p = jnp.array([0.0, 5.0]), jnp.array([2.0, 0.0])
    >>> updates, _ = tx.update(g, tx.init(p), p)
    >>> print((p + updates).round(3))  # the norm is still 2
    [ 1.414 -1.414]
    """

    learning_rate: Hyper = hyper(ge=0)
    min_norm: Hyper = hyper(default=1e-6, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        rate = jnp.asarray(self.learning_rate)
        grown = jnp.sqrt(1 + rate**2)
        shrink = -(rate**2) / (grown * (1 + grown))  # 1 / grown - 1, without cancellation
        return Shared(step=rate / grown, shrink=shrink), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        direction, _ = scale_by_trust_ratio(self.min_norm).update_leaf(g, slots, p, None)
        return p * shared.shrink - direction * shared.step, slots
