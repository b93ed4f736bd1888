"""Scales updates by the norm of the update or of the parameter, and centralizes gradients.

    scale_by_param_block_norm   u = g * max(|p|, min_scale)              every leaf
    scale_by_param_block_rms    u = g * max(rms(p), min_scale)           every leaf
    normalize_by_update_norm    u = scale_factor * g / (|g| + eps)       the tree as one vector
    centralize                  u = g - mean of g over all axes but the first

Centralization: Yong et al., 2020, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks".
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise, Shared, Treewide

__all__ = [
    "centralize",
    "normalize",
    "normalize_by_update_norm",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
]


class scale_by_param_block_norm(Layerwise, needs=("params",)):
    """Multiplies each leaf of the updates by the norm of its parameter.

    Put it after a scaling such as `scale_by_adam` if the size of each update should be proportional to the size of its
    parameter.

        u = g * max(|p|, min_scale)

    Args:
      min_scale: Lower bound on the norm (default 1e-3), so that parameters that start at zero can change. Not negative.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count. A product that is too large
      for its dtype overflows.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_param_block_norm()
      >>> g, p = jnp.array([1.0, 1.0]), jnp.array([3.0, 4.0])
      >>> print(tx.update(g, tx.init(p), p)[0])
      [5. 5.]
    """

    min_scale: Hyper = hyper(default=1e-3, ge=0)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * jnp.maximum(tree.norm(p), self.min_scale), slots


class scale_by_param_block_rms(Layerwise, needs=("params",)):
    """Multiplies each leaf of the updates by the root mean square of its parameter.

    Put it after a scaling such as `scale_by_adam` if the size of each update should be proportional to the size of its
    parameter, as in Adafactor. Unlike the norm, the root mean square does not grow with the number of entries.

        u = g * max(rms(p), min_scale)

    Args:
      min_scale: Lower bound on the root mean square (default 1e-3), so that parameters that start at zero can change.
        Not negative.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count. A product that is too large
      for its dtype overflows.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_param_block_rms()
      >>> g, p = jnp.array([1.0, 1.0]), jnp.array([2.0, -2.0])
      >>> print(tx.update(g, tx.init(p), p)[0].astype("float16"))
      [2. 2.]
    """

    min_scale: Hyper = hyper(default=1e-3, ge=0)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        rms = tree.norm(p) / math.sqrt(max(p.size, 1))
        return g * jnp.maximum(rms, self.min_scale), slots


class normalize_by_update_norm(Treewide):
    """Scales the whole tree of updates to norm `scale_factor`.

    Then every update has the same norm before the learning rate is applied, however small the gradient is.

        u = scale_factor * g / (|g| + eps),      |g| over all leaves

    Args:
      scale_factor: Norm of the result (default 1). Any finite number.
      eps: Added to the norm in the denominator (default 1e-6), so that tiny gradients are not scaled up to full size.
        Not negative. Updates that are all zero stay zero, even with `eps=0`.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.normalize_by_update_norm(eps=0.0)
      >>> g = {"w": jnp.array([3.0]), "b": jnp.array([4.0])}
      >>> print(tx.update(g, tx.init(g))[0]["w"].round(3))
      [0.6]
    """

    scale_factor: Hyper = hyper(default=1.0)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def measure(self, updates: Any, slots: Any, numbers: Any, params: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        scale, norm = tree.scaled(updates)  # the norm is the product of the two, which may overflow
        divisor = norm + self.eps / scale
        rescale = self.scale_factor / jnp.where(divisor > 0, divisor, 1)
        return Shared(unscale=1 / scale, rescale=rescale), numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared.unscale * shared.rescale, slots


@constructor
def normalize() -> normalize_by_update_norm:
    """Scales the whole tree of updates to norm 1: `normalize_by_update_norm(eps=0.0)`.

    Updates that are all zero stay zero.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.normalize()
      >>> g = jnp.array([3.0, 4.0])
      >>> print(tx.update(g, tx.init(g))[0])
      [0.6 0.8]
    """
    return normalize_by_update_norm(eps=0.0)


class centralize(Layerwise):
    """Subtracts from each gradient its mean over all axes except the first: gradient centralization.

    Put it before the optimizer: `chain(centralize(), adamw(1e-3))`. It can make training more stable and improve
    generalization. The first axis is treated as the axis of the outputs, as in the paper. Leaves with fewer than two
    axes are unchanged.

    Returns:
      A transformation. It keeps no state except a step count.

    References:
      Yong et al., 2020, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.centralize()
      >>> print(tx.update(jnp.array([[1.0, 3.0], [5.0, 5.0]]), tx.init(jnp.zeros((2, 2))))[0])
      [[-1.  1.]
       [ 0.  0.]]
    """

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        if g.ndim < 2 or g.size == 0:
            return g, slots
        (share,) = leaf.apart(g, jnp.asarray(g.shape[0] / g.size, g.dtype))
        mean = jnp.sum(g * share, axis=tuple(range(1, g.ndim)), keepdims=True)
        # The selection keeps XLA's CPU backend from fusing the difference into the library call that sums.
        return g - jnp.where(mean == 0, 0, mean), slots
