"""Mirror descent: steps in the dual coordinates of a set, which never leave the set.

With the mirror map h of the set, a step solves grad h(x') = grad h(x) - eta g (Nemirovski and Yudin, 1983, "Problem
Complexity and Method Efficiency in Optimization"; Beck and Teboulle, 2003, "Mirror Descent and Nonlinear Projected
Subgradient Methods for Convex Optimization"):

    entropy               simplex     x'_i = scale x_i e^(-eta g_i) / sum_j x_j e^(-eta g_j)
    unnormalized_entropy  x >= 0      x'_i = x_i e^(-eta g_i)
    bit_entropy           [0, scale]  x'_i / (scale - x'_i) = x_i / (scale - x_i) e^(-eta g_i)

The first two are the exponentiated gradient method (Kivinen and Warmuth, 1997, "Exponentiated Gradient versus Gradient
Descent for Linear Predictors").
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
    """Takes steps that stay in a set without projecting: mirror descent, or the exponentiated gradient method.

    It is a whole optimizer: give it the gradient of the loss. Use it for probability distributions and other
    parameters that must not be negative. Start inside the set, for instance at the uniform distribution, because an
    entry that is 0 stays 0 (and for 'bit_entropy' an entry that is `scale` stays `scale`). Entries below 0 count as 0,
    and entries above `scale` as `scale`; a point of the simplex without positive entries counts as the uniform
    distribution. Exponents are bounded, so that no step overflows.

        p <- scale * p * exp(-learning_rate * g) / sum(p * exp(-learning_rate * g))      with 'entropy'

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      mirror: 'entropy' (default) for the simplex, whose points sum to `scale`; 'unnormalized_entropy' for points
        without negative entries; 'bit_entropy' for entries in [0, scale].
      scale: Size of the set, a positive number (default 1); not used by 'unnormalized_entropy'.
      axis: None (default) to take each leaf as one point of the simplex; an integer to take every vector along that
        axis as a point of its own.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    References:
      Beck and Teboulle, 2003, "Mirror Descent and Nonlinear Projected Subgradient Methods for Convex Optimization".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.mirror_descent(jnp.log(3.0))
      >>> w = jnp.array([0.5, 0.5])
      >>> updates, _ = tx.update(jnp.array([0.0, -1.0]), tx.init(w), w)
      >>> print((w + updates).round(2))
      [0.25 0.75]

    Raises:
      TypeError: A parameter is complex.
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
