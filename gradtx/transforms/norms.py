"""Links that look at norms: of the update, of the parameter, of their ratio.

scale_by_param_block_norm   u = g * max(|p|, min_scale)              every leaf
scale_by_param_block_rms    u = g * max(rms(p), min_scale)           every leaf
normalize_by_update_norm    u = scale_factor * g / (|g| + eps)       the tree as one vector
centralize                  u = g - mean of g over all axes but the first
(Yong et al., 2020, "Gradient Centralization: A New Optimization
Technique for Deep Neural Networks")
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
    """Every leaf of the updates times the norm of its parameter, which counts as `min_scale` at least.

    `min_scale` (default 1e-3) is not negative. A product that the dtype cannot hold overflows.

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
    """Every leaf of the updates times the root mean square of its parameter, at least `min_scale`.

    `min_scale` (default 1e-3) is not negative. A product that the dtype cannot hold overflows.

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
    """The whole tree scaled to the norm `scale_factor`; `eps` is added to the norm that it is divided by.

    `scale_factor` (default 1) is any finite number, `eps` (default 1e-6) is not negative. Zeros stay zeros.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.normalize_by_update_norm(eps=0.0)
    >>> g = {"w": jnp.array([3.0]), "b": jnp.array([4.0])}
    >>> print(tx.update(g, tx.init(g))[0]["w"].round(3))
    [0.6]
    """

    scale_factor: Hyper = hyper(default=1.0)
    eps: Hyper = hyper(default=1e-6, ge=0)

    def measure(self, updates: Any, slots: Any, numbers: Any, params: Any, t: Array, **extra: Any) -> tuple[Any, Any]:
        scale, norm = tree.scaled(updates)  # their product need not be representable
        divisor = norm + self.eps / scale
        rescale = self.scale_factor / jnp.where(divisor > 0, divisor, 1)
        return Shared(unscale=1 / scale, rescale=rescale), numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g * shared.unscale * shared.rescale, slots


@constructor
def normalize() -> normalize_by_update_norm:
    """The whole tree scaled to norm 1: `normalize_by_update_norm(eps=0.0)`. Zeros stay zeros.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.normalize()
    >>> g = jnp.array([3.0, 4.0])
    >>> print(tx.update(g, tx.init(g))[0])
    [0.6 0.8]
    """
    return normalize_by_update_norm(eps=0.0)


class centralize(Layerwise):
    """Every leaf with two or more axes less its mean over all axes but the first; others as they are.

    The first axis is taken for the output's, as in the paper.

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
        # The selection keeps XLA's CPU backend from taking the difference into the library call that sums.
        return g - jnp.where(mean == 0, 0, mean), slots
