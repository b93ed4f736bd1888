"""The Frank-Wolfe method (conditional gradient): steps towards the point of a set that lies furthest down the gradient.

    s = argmin_(s in the set) <g, s>,    x <- x + gamma (s - x),    gamma = 2 / (t + 2)

Frank and Wolfe, 1956, "An Algorithm for Quadratic Programming"; Jaggi, 2013, "Revisiting Frank-Wolfe: Projection-Free
Sparse Convex Optimization". x is an average of points s, which are often simple: corners of the set, or matrices of
rank one. No projection onto the set is needed, only an oracle for s, which is often much cheaper.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.partial import Partial, WithFunction
from gradtx.core.value import child, static
from gradtx.schedules.inverse import inverse_power_schedule
from gradtx.transforms.project import check_axis
from gradtx.types import Slots

__all__ = ["frank_wolfe"]

_STEPS = inverse_power_schedule(1.0, beta=0.5, alpha=1.0)  # 2 / (t + 2)


class frank_wolfe(WithFunction, Layerwise, needs=("params",)):
    """Minimizes over a convex set without projections: conditional gradient steps (Frank-Wolfe).

    It is a whole optimizer: give it the gradient of the loss, without a learning rate. Use it if the projection onto
    the set is expensive, as for the nuclear ball, or if a sparse or low-rank solution is wanted.

        s = argmin_(s in the set) <g, s>,     p <- p + step_size * (s - p)

    Starting from a point of the set, all points are in the set if it is convex. With the default schedule any starting
    point will do, because the first step goes all the way to s.

    Args:
      oracle: Function `oracle(gradient, *data)` that returns the point of the set with the smallest inner product with
        the gradient, such as `gx.oracle_simplex`.
      data: Further arguments of `oracle`, such as a radius. They are hyperparameters: numbers, arrays, schedules or
        trees of arrays.
      step_size: Share of the way to s that a step takes; by default the schedule 2 / (t + 2) of the step count t, whose
        first value is 1. In [0, 1].
      axis: None (default) to take each leaf as one point; an integer to take every vector along that axis as a point of
        its own.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    References:
      Jaggi, 2013, "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.frank_wolfe(gx.oracle_l1_ball, 2.0)
      >>> w = jnp.zeros(3)
      >>> updates, _ = tx.update(jnp.array([0.5, 3.0, -1.0]), tx.init(w), w)
      >>> print(w + updates)
      [ 0. -2.  0.]
    """

    oracle: Partial = child()
    step_size: Hyper = hyper(default=_STEPS, ge=0, le=1, kw_only=True)
    axis: int | None = static(default=None, check=check_axis, kw_only=True)

    _function = "oracle"

    def __init__(self, oracle: Any, *data: Any, step_size: HyperArg = _STEPS, axis: int | None = None) -> None:
        self._set(oracle, data, step_size=step_size, axis=axis)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        corner = jnp.where(jnp.isfinite(g), self.oracle(g, self.axis), jnp.nan)  # the oracle would hide a NaN
        return self.step_size * (corner - p), slots
