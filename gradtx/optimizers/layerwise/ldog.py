"""L-DoG: DoG with a separate distance and a separate sum of squared gradients for every leaf.

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
from gradtx.core.slots import PARAM, counter, per_param, reduced
from gradtx.core.value import dtype
from gradtx.types import Slots

__all__ = ["ScaleByDistanceOverGradientsState", "scale_by_distance_over_gradients"]


class ScaleByDistanceOverGradientsState(NamedTuple):
    """The state of `scale_by_distance_over_gradients`.

    `count`: the number of steps taken. `max_dist`: the largest distance of each leaf from its initial value.
    `grad_sum_of_squares`: each leaf's sum of squared gradients. `init_params`: the initial parameters.
    """

    count: Array = counter()
    max_dist: Array = reduced(start="first_distance", real=True, signed=False)
    grad_sum_of_squares: Array = reduced(real=True, signed=False)
    init_params: Array = per_param(start=PARAM, dtype="param_dtype")


class scale_by_distance_over_gradients(Layerwise, state=ScaleByDistanceOverGradientsState, needs=("params",)):
    """Chooses a step size for every leaf from the leaf's distance to its initial value (L-DoG).

    Use it in place of a tuned learning rate when layers need different step sizes. To get a complete optimizer, put
    `gx.scale_by_learning_rate(1.0)` after it. The update is

        u = g * global_scale * r / sqrt(G + eps)

    where r is the leaf's largest distance from its initial value so far, and G the sum of its squared gradients.

    Args:
      reps_rel: Initial estimate of the distance, relative to 1 + the norm of the leaf; the estimate never shrinks, so
        choose a small value. Not negative; default 1e-6.
      eps: Added to the sum of squared gradients under the square root, for numerical stability. Not negative; default
        1e-8.
      param_dtype: Dtype in which the initial parameters are stored, such as `jnp.bfloat16` to save memory; by default
        the parameter's dtype, but at least float32.
      global_scale: Factor by which every update is multiplied. Any number. Default 1.

    State: one array per parameter (4 bytes per entry in float32), and two numbers per leaf. `update` needs `params`.

    Reference: Ivgi, Hinder and Carmon, 2023, "DoG is SGD's Best Friend", section 3.

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

    def first_distance(self, p: Array) -> Array:
        return self.reps_rel * (1 + tree.norm(p))

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        farthest = jnp.maximum(slots.max_dist, tree.norm(p - slots.init_params))
        total = leaf.finite_sum(slots.grad_sum_of_squares, tree.norm_sq(g))
        u = g * (farthest / leaf.root(total, self.eps) * self.global_scale)
        return u, slots._replace(max_dist=farthest, grad_sum_of_squares=total)
