"""Adaptive gradient clipping: no unit's gradient is longer than a fraction of the unit's weights.

    u = g * min(1, clipping * max(|p|, eps) / |g|)      for every unit

Brock et al., 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4. A unit is an
output: the last axis of a weight counts them, and norms are taken over the other axes; a vector is one unit.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import checks, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.value import static

__all__ = ["adaptive_grad_clip"]


def _check_axis(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(i, int) for i in value):
        return tuple(value)
    raise TypeError(f"{who}: {name} must be None, an integer or a tuple of integers, got {checks.shown(value)}.")


class adaptive_grad_clip(Layerwise, needs=("params",)):
    """Clips the gradient of every unit to `clipping` times the norm of its weights.

    `clipping` is positive (0.01 in the paper), `eps` (default 1e-3) is the least norm that a unit counts
    with. `axis` says over which axes norms are taken; by default over all but the last, over the first
    alone in three axes, and over everything in a vector or scalar, as in optax.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.adaptive_grad_clip(0.5)
    >>> g, p = jnp.array([3.0, 4.0]), jnp.array([0.0, 2.0])
    >>> print(tx.update(g, tx.init(p), p)[0].round(3))
    [0.6 0.8]
    """

    clipping: Hyper = hyper(gt=0)
    eps: Hyper = hyper(default=1e-3, ge=0)
    axis: Any = static(default=None, check=_check_axis)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        if g.size == 0:
            return g, slots
        axes = self._axes(g)
        bound = jnp.maximum(tree.norm(p, axes), self.eps) * self.clipping
        unscale, shrink = tree.shrinking(g, bound, axes)
        return g * unscale * shrink, slots

    def _axes(self, x: Array) -> tuple[int, ...]:
        every = tuple(range(x.ndim))
        if self.axis is not None:
            axes = (self.axis,) if isinstance(self.axis, int) else self.axis
            if not all(-x.ndim <= i < x.ndim for i in axes):
                raise ValueError(
                    f"adaptive_grad_clip: axis={self.axis} is no axis of a leaf of shape {x.shape}. Mask such leaves "
                    "out, or give axes that all leaves have."
                )
            return tuple(every[i] for i in axes)
        if x.ndim <= 1 or math.prod(x.shape) == max(x.shape):
            return every
        return (0,) if x.ndim <= 3 else every[:-1]
