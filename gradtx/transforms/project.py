"""Transformations that keep the parameters in a set.

Put such a transformation last in a chain: it changes the update so that params + updates is in the set.

    project        u = P(p + g) - p                 P(x) is the nearest point of the set
    clip_params    u = min(max(p + g, lower), upper) - p
"""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise, Layerwise, Leafwise
from gradtx.core.mask import applies_to
from gradtx.core.partial import Partial, WithFunction
from gradtx.core.value import child, static

__all__ = ["clip_params", "keep_params_nonnegative", "project"]


def check_axis(who: str, name: str, value: Any) -> int | None:
    """Returns the axis; raises a TypeError unless it is an integer or None."""
    return None if value is None else checks.integer(who, name, value, ge=-(2**31))


class _KeepsToSet(Leafwise):
    """Gives solvers the projection onto the set in which the parameters are kept; schedules are evaluated at step 0."""

    def _nearest_leaf(self, x: Array) -> Array:
        """Returns the point of the set nearest to one leaf `x`, which is in float32 or wider."""
        raise NotImplementedError

    def nearest(self, params: Any) -> Any:
        leaves, treedef = jax.tree.flatten(params)
        now, chosen = self.at(0), self._where(params) or [True] * len(leaves)
        points = [
            leaf.narrow(now._nearest_leaf(leaf.widen(jnp.asarray(x))), jnp.result_type(x)) if yes and jnp.size(x) else x
            for x, yes in zip(leaves, chosen, strict=True)
        ]
        return treedef.unflatten(points)

    def reduced_gradient(self, params: Any, grad: Any) -> Any:
        # p - P(p - g), computed as g + ((p - g) - P(p - g)): the second term is exactly zero if p - g is in the set or
        # the leaf is not projected, so a g much smaller than p is not lost to rounding.
        there = jax.tree.map(jnp.subtract, params, grad)
        return jax.tree.map(lambda g, x, y: g + (x - y), grad, there, self.nearest(there))


class project(WithFunction, _KeepsToSet, Layerwise, needs=("params",)):
    """Projects the parameters onto a set after each step: projected gradient descent with any optimizer.

    Put it last in a chain: `chain(sgd(0.1), project(projection_simplex))`. The new parameters are the point of the set
    nearest to p + g. To project the whole tree as one vector, use `flatten(project(...))`.

        u = P(p + g) - p

    The new parameters are exact up to rounding: the error is about the dtype's machine epsilon times |p| + |p + g|.
    16-bit updates are rounded once, at the end.

    Args:
      projection: Function `projection(leaf, *data)` that returns the point of the set nearest to `leaf`:
        `gx.projection_simplex`, any other `gx.projection_...`, or your own.
      data: Further arguments of `projection`, such as a radius or bounds. They are hyperparameters: numbers, arrays,
        schedules or trees of arrays.
      axis: None (default) to project each leaf as one point; an integer to project every vector along that axis
        separately, such as the rows of a matrix with `axis=-1`. Leaves with fewer than two axes are always one point.
      mask: Which parameters to project: a selector such as `gx.select.path("**/kernel")`, a tree of booleans, or a
        function of the parameters. All parameters by default.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.project(gx.projection_l2_ball, 2.0))
      >>> params = jnp.array([0.0, 1.0])
      >>> updates, state = tx.update(jnp.array([0.0, -9.0]), tx.init(params), params)
      >>> print(gx.apply_updates(params, updates))
      [0. 2.]
      >>> print(tx.replace(scale=3.0))
      chain(chain(scale_by_learning_rate(learning_rate=1.0)), project(projection_l2_ball, 3.0))

    Raises:
      TypeError: `projection` is not a function, or an item of `data` is not a number, an array, a schedule or a tree of
        arrays.
      ValueError: `update` is called without `params`, or the structure of the mask does not match the parameters.
    """

    projection: Partial = child()
    axis: int | None = static(default=None, check=check_axis)
    mask: Any = applies_to(default=None)

    _function = "projection"

    def __init__(self, projection: Any, *data: Any, axis: int | None = None, mask: Any = None) -> None:
        self._set(projection, data, axis=axis, mask=mask)

    def _nearest_leaf(self, x: Array) -> Array:
        return self.projection(x, self.axis)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        # The barrier writes the sum once; otherwise every pass of the projection would compute the update again.
        there = lax.optimization_barrier(p + g)
        return self._nearest_leaf(there) - p, slots


class clip_params(_KeepsToSet, Elementwise, needs=("params",), real=True):
    """Keeps every parameter in [lower, upper]: clips the sum of parameters and updates.

    Put it last in a chain. It does the same as `project(projection_box, lower, upper)`, with a stronger guarantee:
    params + updates, added in the dtype of the updates (float32 or wider), never leaves the interval, not even by
    rounding.

        u = min(max(p + g, lower), upper) - p

    Args:
      lower: Lower bound of every entry. The default, minus infinity, sets no bound.
      upper: Upper bound of every entry. The default, infinity, sets no bound.
      mask: Which parameters to clip: a selector such as `gx.select.path("**/scale")`, a tree of booleans, or a function
        of the parameters. All parameters by default.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.clip_params(-1.0, 1.0))
      >>> params = jnp.array([0.0, 0.0])
      >>> updates, _ = tx.update(jnp.array([0.5, -9.0]), tx.init(params), params)
      >>> print(params + updates)
      [-0.5  1. ]

    Raises:
      ValueError: `lower` is a number greater than the number `upper`.
      TypeError: A parameter is complex.
    """

    lower: Hyper = hyper(default=-math.inf, infinite=True)
    upper: Hyper = hyper(default=math.inf, infinite=True)
    mask: Any = applies_to(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        lower, upper = self.lower, self.upper
        if isinstance(lower, (int, float)) and isinstance(upper, (int, float)) and lower > upper:
            raise ValueError(
                f"clip_params: lower = {lower} is greater than upper = {upper}, so no parameter can satisfy both. "
                "Exchange the two."
            )

    def _nearest_leaf(self, x: Array) -> Array:
        return jnp.clip(x, self.lower, self.upper)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        u, there = g, p + g
        sides = (self.lower, -math.inf, operator.lt, 1), (self.upper, math.inf, operator.gt, -1)
        for bound, free, beyond, inward in sides:
            if leaf.is_number(bound) and bound == free:
                continue
            outside = beyond(there, bound)
            u, there = jnp.where(outside, bound - p, u), jnp.where(outside, bound, there)
            if leaf.is_number(bound) and bound == 0:
                continue  # p - p is 0
            # u is rounded, so p + u may lie beyond the bound by at most half a rounding unit of u. Moving u by one unit
            # brings p + u inside.
            landed, unit = lax.stop_gradient((p + u, jnp.abs(u) * jnp.finfo(u.dtype).eps))
            u = u + jnp.where(beyond(landed, bound), inward * unit, 0)
        return u, slots


@constructor
def keep_params_nonnegative(mask: Any = None) -> clip_params:
    """Keeps every parameter at or above zero: `clip_params(lower=0.0)`.

    Put it last in a chain.

    Args:
      mask: Which parameters to keep nonnegative: a selector such as `gx.select.path("**/scale")`, a tree of booleans,
        or a function of the parameters. All parameters by default.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.keep_params_nonnegative())
      >>> params = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([0.5, 3.0]), tx.init(params), params)
      >>> print(params + updates)
      [0.5 0. ]
    """
    return clip_params(0.0, mask=mask)
