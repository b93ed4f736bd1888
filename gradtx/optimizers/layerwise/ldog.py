"""L-DoG: DoG with a distance and a sum of squares for every leaf.

    r_t = max(r_(t-1), |x_t - x_1|),   r_0 = reps_rel * (1 + |x_1|)
    G_t = G_(t-1) + |g_t|^2
    u_t = g_t * global_scale * r_t / sqrt(G_t + eps)

Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule", section 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.state import Like, Reduced
from gradtx.core.value import dtype

__all__ = ["ScaleByDistanceOverGradientsState", "scale_by_distance_over_gradients"]


class ScaleByDistanceOverGradientsState(NamedTuple):
    """The steps taken; of each leaf the largest distance, the sum of squares, and x_1."""

    count: Array
    max_dist: Reduced
    grad_sum_of_squares: Reduced
    init_params: Like


class scale_by_distance_over_gradients(Layerwise, state=ScaleByDistanceOverGradientsState, needs=("params",)):
    """The rule of L-DoG. `reps_rel` and `eps` are not negative.

    `param_dtype` is what x_1 is kept in, by default the parameter's dtype but at least float32.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_distance_over_gradients(0.5, eps=0.0)
    >>> p = jnp.zeros(2)
    >>> print(tx.update(jnp.array([3.0, 4.0]), tx.init(p), p)[0].round(3))
    [0.3 0.4]
    """

    reps_rel: Hyper = hyper(default=1e-6, ge=0)
    eps: Hyper = hyper(default=1e-8, ge=0)
    param_dtype: Any = dtype(default=None)
    global_scale: Hyper = hyper(default=1.0)

    def init_leaf(self, p: Array) -> tuple[Array, Array, Array]:
        start = leaf.copy(p) if self.param_dtype is None else jnp.array(p, self.param_dtype, copy=True)
        return tree.number(p, self.reps_rel * (1 + tree.norm(p))), tree.number(p, 0.0), start

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        farthest, total, start = slots
        farthest = jnp.maximum(farthest, tree.norm(p - start))
        total = leaf.finite_sum(total, tree.norm_sq(g))
        return g * (farthest / leaf.root(total, self.eps) * self.global_scale), (farthest, total, start)
