"""Adaptive gradient clipping: no unit's gradient is longer than a fraction of the unit's weights.

    u = g * min(1, clipping * max(|p|, eps) / |g|)      for every unit

Brock et al., 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4. A unit is an
output: the last axis of a weight counts them, and norms are taken over the other axes; a vector is one unit.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.value import per_leaf

__all__ = ["adaptive_grad_clip"]


def _check_axis(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(i, int) for i in value):
        return tuple(value)
    raise TypeError(f"{who}: {name} must be None, an integer or a tuple of integers, got {checks.shown(value)}.")


def _axes(who: str, axis: Any, params: Any) -> list[tuple[int, ...]]:
    """For each leaf the axes over which norms are taken."""
    found = []
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        shape = np.shape(p)
        every = tuple(range(len(shape)))
        axes = (axis,) if isinstance(axis, int) else axis
        if axes is None:
            whole = len(shape) <= 1 or math.prod(shape) == max(shape)
            axes = every if whole else (0,) if len(shape) <= 3 else every[:-1]
        elif not all(-len(shape) <= i < len(shape) for i in axes):
            raise ValueError(
                f"{who}: axis={axis} is no axis of the leaf at {checks.keystr(path)}, which has shape {shape}. "
                "Leave such leaves out by gx.masked, or give axes that all leaves have."
            )
        found.append(tuple(every[i] for i in axes))
    return found


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
    axis: Any = per_leaf(_axes, default=None, check=_check_axis)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, axis: Any) -> tuple[Array, Any]:
        if g.size == 0:
            return g, slots
        bound = jnp.maximum(tree.norm(p, axes=axis), self.eps) * self.clipping
        unscale, shrink = tree.shrinking(g, bound, axis)
        return g * unscale * shrink, slots
