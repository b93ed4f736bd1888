"""Fromage: changes every layer by a fixed fraction of its norm, then scales it down so that the norm does not grow.

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
    """Runs Fromage, which changes every layer by the same fraction of its norm.

    Use it when the scales of layers differ greatly, or when there is no memory for optimizer state. For every leaf p
    (Bernstein et al., 2020, "On the distance between two neural networks and the stability of learning", algorithm 1):

        p <- (p - learning_rate * g * |p| / |g|) / sqrt(1 + learning_rate^2)

    Args:
      learning_rate: Fraction of its norm by which each layer changes: a number, or a schedule (a function of the step
        count). The paper uses 0.01. Not negative.
      min_norm: Lower bound: smaller norms of parameters and gradients are replaced by this value. Not negative; default
        1e-6.

    State: none. `update` needs `params`.

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
