"""Adaptive gradient clipping: limits the gradient of each unit, such as a column or a filter, relative to its weights.

    u = g * min(1, clipping * max(|p|, eps) / |g|)      for every unit

Brock et al., 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4. A unit is the set
of weights that compute one output of a layer. The last axis of a weight array indexes the outputs, so for matrices and
convolutions norms are taken over the other axes; a vector is one unit.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.value import per_leaf
from gradtx.types import Slots

__all__ = ["adaptive_grad_clip", "unitwise_clip", "unitwise_norm"]


def _check_axis(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, (tuple, list)) and all(isinstance(i, int) for i in value):
        return tuple(value)
    raise TypeError(f"{who}: {name} must be None, an integer or a tuple of integers, got {checks.shown(value)}.")


def _axes(who: str, axis: Any, params: Any) -> list[tuple[int, ...]]:
    """Returns the axes over which norms are taken, for each leaf."""
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
                f"{who}: axis={axis} does not exist in the leaf at {checks.keystr(path)}, which has shape {shape}. "
                "Give axes that all leaves have, or exclude such leaves with gx.masked."
            )
        found.append(tuple(every[i] for i in axes))
    return found


class adaptive_grad_clip(Layerwise, needs=("params",)):
    """Clips the gradient of each unit, such as a column or a filter, relative to the norm of the unit's weights.

    Use it for networks without normalization layers, for which you would otherwise have to tune a global bound for each
    model and batch size. A unit is the set of weights that compute one output of a layer.

        u = g * min(1, clipping * max(|p|, eps) / |g|)

    Args:
      clipping: Largest allowed ratio of the norm of a unit's gradient to the norm of its weights. Positive; the paper
        uses 0.01 for large batches.
      eps: Lower bound on the norm of the weights (default 1e-3), so that weights that start at zero can grow. Not
        negative.
      axis: Axis or axes over which norms are taken. None (default) chooses the axes by shape, like optax: all axes for
        scalars, vectors and arrays with at most one axis longer than 1; the first axis for other arrays with two or
        three axes; all axes except the last for arrays with four or more axes.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Raises:
      TypeError: `axis` is not None, an integer or a tuple of integers.
      ValueError: `axis` does not exist in a leaf.

    References:
      Brock et al., 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.adaptive_grad_clip(0.5)
      >>> g, p = jnp.array([3.0, 4.0]), jnp.array([0.0, 2.0])
      >>> print(tx.update(g, tx.init(p), p)[0].round(3))
      [0.6 0.8]
    """

    clipping: Hyper = hyper(gt=0)
    eps: Hyper = hyper(default=1e-3, ge=0)
    axis: Any = per_leaf(_axes, default=None, check=_check_axis)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, axis: Any) -> tuple[Array, Any]:
        if g.size == 0:
            return g, slots
        bound = jnp.maximum(tree.norm(p, axes=axis), self.eps) * self.clipping
        unscale, shrink = tree.shrinking(g, bound, axis)
        return g * unscale * shrink, slots


def unitwise_norm(x: Any, axis: int | tuple[int, ...] | None = None) -> Array:
    """Computes the norm of each unit (such as a column or a filter) of an array, repeated at every entry of the unit.

    A unit is a set of entries that `adaptive_grad_clip` clips together. Squares neither overflow nor underflow, and
    16-bit arrays are summed in float32.

    Args:
      x: An array of floating-point or complex numbers.
      axis: Axis or axes over which norms are taken; None chooses them by the shape, as in `adaptive_grad_clip`.

    Returns:
      An array with the shape of `x`, in the dtype of `x` or, if `x` is complex, in the matching real dtype.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> print(gx.unitwise_norm(jnp.array([[3.0, 1.0], [4.0, 0.0]])))
      [[5. 1.]
       [5. 1.]]

    Raises:
      TypeError: `x` is not an array of floating-point numbers, or `axis` is not None, an integer or a tuple of
        integers.
      ValueError: `axis` does not exist in `x`.
    """
    who = "unitwise_norm"
    checks.floating(who, "x", x, [x])
    x = jnp.asarray(x)
    (axes,) = _axes(who, _check_axis(who, "axis", axis), x)
    norm = tree.norm(x, axes=axes) if axes else jnp.abs(leaf.widen(x))
    return leaf.narrow(jnp.broadcast_to(norm, x.shape), jnp.finfo(x.dtype).dtype)


def unitwise_clip(g_norm: Any, max_norm: Any, grad: Any, div_eps: Any = 1e-6) -> Array:
    """Scales down the units (such as columns or filters) of a gradient whose norms exceed their bounds.

    Every entry of `grad` whose `g_norm` is at least `max_norm` is multiplied by `max_norm / max(g_norm, div_eps)`; all
    other entries are unchanged.

    Args:
      g_norm: For each entry of `grad`, the norm of its unit: the result of `unitwise_norm(grad)`. Same shape as `grad`.
      max_norm: For each entry of `grad`, the largest allowed norm of its unit. Same shape as `grad`.
      grad: The gradient, an array of floating-point numbers.
      div_eps: Lower bound on the divisor (default 1e-6). Pass a smaller value if norms below 1e-6 must be clipped.

    Returns:
      The clipped gradient, with the shape and dtype of `grad`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> g = jnp.array([3.0, 4.0])
      >>> print(gx.unitwise_clip(gx.unitwise_norm(g), jnp.ones(2), g).round(3))
      [0.6 0.8]

    Raises:
      TypeError: `grad` is not an array of floating-point numbers.
      ValueError: The shapes of `g_norm`, `max_norm` and `grad` differ.
    """
    who = "unitwise_clip"
    checks.floating(who, "grad", grad, [grad])
    grad = jnp.asarray(grad)
    for name, x in (("g_norm", g_norm), ("max_norm", max_norm)):
        if np.shape(x) != grad.shape:
            raise ValueError(
                f"{who}: {name} has shape {np.shape(x)} and grad has shape {grad.shape}; give both the same."
            )
    norm, bound, wide = (leaf.widen(jnp.asarray(x)) for x in (g_norm, max_norm, grad))
    return leaf.narrow(jnp.where(norm < bound, wide, wide * (bound / jnp.maximum(norm, div_eps))), grad.dtype)
