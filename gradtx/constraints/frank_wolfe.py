"""The Frank-Wolfe method: steps towards the point of a set that the gradient asks for.

    s = argmin_(s in the set) <g, s>,    x <- x + gamma (s - x),    gamma = 2 / (t + 2)

(Frank and Wolfe, 1956, "An Algorithm for Quadratic Programming"; Jaggi, 2013, "Revisiting Frank-Wolfe: Projection-Free
Sparse Convex Optimization"). x is an average of points of the set: of few corners, or of matrices of rank one. The
set needs no projection, only an oracle for s, which is often much cheaper.
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
    """Conditional gradient steps: a whole optimizer, given the loss's gradient.

    Args:
      oracle: `oracle(gradient, *data)`, the point of the set with the smallest inner product with the gradient, such
        as `oracle_simplex`.
      data: its data, such as a radius: hyperparameters, as in `project`.
      step_size: gamma in [0, 1], by default the schedule 2 / (t + 2), whose first step leaves the first point.
      axis: None for every leaf as a point; else every vector along that axis is one.

    State: none. `update` needs params. From a point of the set, or from any point by the default schedule, all
    points lie in the set if it is convex.

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
        corner = jnp.where(jnp.isfinite(g), self.oracle(g, self.axis), jnp.nan)  # which would hide it
        return self.step_size * (corner - p), slots
