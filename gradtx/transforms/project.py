"""Links that keep the parameters in a set: the last of a chain, they choose the update that leads there.

project        u = P(p + g) - p                 the nearest point of the set
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
    """An axis as it is stored; raises unless it is an integer or None."""
    return None if value is None else checks.integer(who, name, value, ge=-(2**31))


class _KeepsToSet(Leafwise):
    """What a solver asks of a link that keeps every leaf to a set: the set is that of step 0."""

    def _nearest_leaf(self, x: Array) -> Array:
        """The nearest point to one leaf, which is in float32 or wider."""
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
        # p - P(p - g) as g less what the set takes off p - g: that is exactly nothing where p - g is in the set, or no
        # set is asked for, however small g is beside p.
        there = jax.tree.map(jnp.subtract, params, grad)
        return jax.tree.map(lambda g, x, y: g + (x - y), grad, there, self.nearest(there))


class project(WithFunction, _KeepsToSet, Layerwise, needs=("params",)):
    """The last link of a chain, after which params + updates lies in a set: `project(projection_simplex)`.

    `projection(leaf, *data)` returns the nearest point of the set, as those of `gradtx.projections` do. The data, such
    as a radius or bounds, are hyperparameters: numbers, arrays, schedules or trees of arrays. By default every leaf is
    a point; with `axis` every vector along that axis is one, such as the rows of a matrix (axis=-1); leaves with fewer
    than two axes are one vector. `mask` selects leaves, as in `masked`. The whole tree as one vector:
    `flatten(project(...))`.

    The new parameters are the nearest point to p + g, but for the rounding of p + g, of the update and of their sum: an
    error of the size of the dtype's eps times |p| + |p + g|. 16-bit updates are rounded once, at the end. `update`
    needs params.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.project(gx.projection_l2_ball, 2.0))
    >>> params = jnp.array([0.0, 1.0])
    >>> updates, state = tx.update(jnp.array([0.0, -9.0]), tx.init(params), params)
    >>> print(gx.apply_updates(params, updates))
    [0. 2.]
    >>> print(tx.replace(scale=3.0))
    chain(chain(scale_by_learning_rate(learning_rate=1.0)), project(projection_l2_ball, 3.0))

    Raises:
      TypeError: `projection` is no function, or a datum is neither a number, an array, a schedule nor a tree of arrays.
      ValueError: `update` is called without params, or the mask is no prefix of their tree.
    """

    projection: Partial = child()
    axis: int | None = static(default=None, check=check_axis)
    mask: Any = applies_to()

    _function = "projection"

    def __init__(self, projection: Any, *data: Any, axis: int | None = None, mask: Any = None) -> None:
        self._set(projection, data, axis=axis, mask=mask)

    def _nearest_leaf(self, x: Array) -> Array:
        return self.projection(x, self.axis)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        # Written once and read by every pass of the projection, which would else compute the update anew.
        there = lax.optimization_barrier(p + g)
        return self._nearest_leaf(there) - p, slots


class clip_params(_KeepsToSet, Elementwise, needs=("params",), real=True):
    """The last link of a chain, after which lower <= params + updates <= upper: the projection onto a box.

    It is `project(projection_box, lower, upper)` but for rounding: the sum in the updates' own dtype, float32 or wider,
    never leaves the box, not by one unit in the last place. The bounds may be infinite (the defaults). Complex
    leaves are refused.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.clip_params(-1.0, 1.0))
    >>> params = jnp.array([0.0, 0.0])
    >>> updates, _ = tx.update(jnp.array([0.5, -9.0]), tx.init(params), params)
    >>> print(params + updates)
    [-0.5  1. ]

    Raises:
      ValueError: `lower` is a number above a number `upper`.
    """

    lower: Hyper = hyper(default=-math.inf, infinite=True)
    upper: Hyper = hyper(default=math.inf, infinite=True)
    mask: Any = applies_to()

    def __post_init__(self) -> None:
        super().__post_init__()
        lower, upper = self.lower, self.upper
        if isinstance(lower, (int, float)) and isinstance(upper, (int, float)) and lower > upper:
            raise ValueError(f"clip_params: there is no number between lower = {lower} and upper = {upper}.")

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
            # p + u is at most half a unit of u beyond the bound before it is rounded: one or two back it is inside.
            landed, unit = lax.stop_gradient((p + u, jnp.abs(u) * jnp.finfo(u.dtype).eps))
            u = u + jnp.where(beyond(landed, bound), inward * unit, 0)
        return u, slots


@constructor
def keep_params_nonnegative(mask: Any = None) -> clip_params:
    """The last link of a chain, after which params + updates >= 0: `clip_params(lower=0.0)`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.sgd(1.0), gx.keep_params_nonnegative())
    >>> params = jnp.array([1.0, 1.0])
    >>> updates, _ = tx.update(jnp.array([0.5, 3.0]), tx.init(params), params)
    >>> print(params + updates)
    [0.5 0. ]
    """
    return clip_params(0.0, mask=mask)
