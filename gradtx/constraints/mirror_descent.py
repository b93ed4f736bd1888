"""Mirror descent: steps in the dual coordinates of a set, which never leave it.

With the mirror map h of the set, grad h(x') = grad h(x) - eta g (Nemirovski and Yudin, 1983, "Problem Complexity and
Method Efficiency in Optimization"; Beck and Teboulle, 2003, "Mirror Descent and Nonlinear Projected Subgradient Methods
for Convex Optimization"):

    entropy               simplex     x'_i = scale x_i e^(-eta g_i) / sum_j x_j e^(-eta g_j)
    unnormalized_entropy  x >= 0      x'_i = x_i e^(-eta g_i)
    bit_entropy           [0, scale]  x'_i / (scale - x'_i) = x_i / (scale - x_i) e^(-eta g_i)

The first two are the exponentiated gradient (Kivinen and Warmuth, 1997, "Exponentiated Gradient versus Gradient Descent
for Linear Predictors").
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.value import choice, static
from gradtx.transforms.project import check_axis
from gradtx.types import Slots

__all__ = ["mirror_descent"]


class mirror_descent(Layerwise, needs=("params",), real=True):
    """Steps that stay in a set without projecting: a whole optimizer, given the loss's gradient.

    Args:
      learning_rate: eta, not negative.
      mirror: 'entropy' for the simplex, whose points sum to `scale`; 'unnormalized_entropy' for points without
        negative entries; 'bit_entropy' for entries in [0, scale].
      scale: a positive number (default 1); 'unnormalized_entropy' has no use for it.
      axis: None for every leaf as one point of the simplex; else every vector along that axis is one.

    State: none. `update` needs params. They begin inside of the set, in the uniform distribution, say: an entry that
    is 0 stays 0, as for 'bit_entropy' one that is `scale` does. Entries below 0 count as 0, those above `scale` as
    `scale`, and a point of the simplex without positive entries as the uniform one. Exponents are bounded, so that no
    step overflows. Complex leaves are refused.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.mirror_descent(jnp.log(3.0))
    >>> w = jnp.array([0.5, 0.5])
    >>> updates, _ = tx.update(jnp.array([0.0, -1.0]), tx.init(w), w)
    >>> print((w + updates).round(2))
    [0.25 0.75]
    """

    learning_rate: Hyper = hyper(ge=0)
    mirror: str = choice(default="entropy", options=("entropy", "unnormalized_entropy", "bit_entropy"))
    scale: Hyper = hyper(default=1.0, gt=0, kw_only=True)
    axis: int | None = static(default=None, check=check_axis, kw_only=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        bound = 0.8 * float(np.log(float(jnp.finfo(g.dtype).max)))
        largest = float(jnp.finfo(g.dtype).max) / 4
        exponent = jnp.clip(-self.learning_rate * g, -largest, largest)
        exponent = jnp.where(jnp.isfinite(g), exponent, jnp.nan)  # stays visible
        inside = jnp.where(p > 0, p, 0)
        if self.mirror == "unnormalized_entropy":
            moved = inside * jnp.expm1(jnp.clip(exponent, -largest, bound))
            return jnp.clip(moved, -largest, largest) + (inside - p), slots
        if self.mirror == "bit_entropy":
            return self._bits(inside, exponent, bound) - p, slots
        return self._simplex(inside, exponent) - p, slots

    def _simplex(self, x: Array, exponent: Array) -> Array:
        axis = None if self.axis is None or x.ndim < 2 else self.axis
        # The largest exponent of a positive entry is 0, so that the sum neither overflows nor vanishes.
        top = jnp.max(jnp.where(x > 0, exponent, -jnp.inf), axis=axis, keepdims=True)
        top = lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
        weights = x * jnp.exp(jnp.minimum(exponent - top, 0))
        largest = jnp.max(weights, axis=axis, keepdims=True)
        none = largest <= 0
        weights = jnp.where(none, 1, weights) / jnp.where(none, 1, lax.stop_gradient(largest))
        return self.scale * (weights / jnp.sum(weights, axis=axis, keepdims=True))

    def _bits(self, x: Array, exponent: Array, bound: float) -> Array:
        share = jnp.minimum(x / self.scale, 1)
        small = jnp.exp(jnp.maximum(-jnp.abs(exponent), -bound))
        up = share / (share + (1 - share) * small)
        down = share * small / (share * small + (1 - share))
        return self.scale * jnp.where(exponent > 0, up, down)
