"""Conjugate gradients on a quadratic model, stopped early: the inner loops of Newton methods that do not form the
matrix.

The model is m(p) = <g, p> + <p, H p> / 2 for a symmetric H of which only products are known. Vectors are trees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.core.branch import loop
from gradtx.curvature.products import hvp
from gradtx.types import Params, Updates

__all__ = ["check_steps", "dot", "products", "scaled", "steihaug", "tolerance", "truncated", "unit"]


def check_steps(who: str, name: str, value: Any) -> int | None:
    return None if value is None else checks.integer(who, name, value, ge=1)


def unit(updates: Updates) -> tuple[Any, Array]:
    """Returns the updates in float32 or wider, divided by their largest entry so that no product overflows, and
    that entry.
    """
    wide = tree.number(updates, 0).dtype
    g = jax.tree.map(lambda g: jnp.asarray(g).astype(wide), updates)
    size = lax.stop_gradient(functools.reduce(jnp.maximum, [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(g) if x.size]))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return jax.tree.map(lambda x: x / size, g), size


def tolerance(updates: Updates, forcing: Any, like: Array) -> Array:
    """Returns the residual to stop at, relative to the gradient; it is never below rounding."""
    return jnp.maximum(jnp.minimum(forcing, jnp.sqrt(tree.norm(updates))), float(jnp.finfo(like.dtype).eps))


def scaled(x: Array, size: Array, like: Any) -> Array:
    """Returns x * size in the dtype of `like`; finite entries stay finite."""
    limit = float(jnp.finfo(x.dtype).max)
    return leaf.narrow(jnp.where(jnp.isfinite(x), jnp.clip(x * size, -limit, limit), x), jnp.result_type(like))


def products(value_fn: Callable[[Any], Any], params: Params, size: Any = 1) -> Callable[[Any], Any]:
    """Returns a function that multiplies by the Hessian divided by `size`, for vectors in float32 or wider."""

    def times(v: Any) -> Any:
        return jax.tree.map(lambda x, v: x.astype(v.dtype) / size, hvp(value_fn, params, v), v)

    return times


def dot(a: Any, b: Any) -> Array:
    return functools.reduce(jnp.add, [jnp.sum(x * y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)])


def _plus(x: Any, factor: Array, d: Any) -> Any:
    return jax.tree.map(lambda x, d: x + factor * d, x, d)


class _Search(NamedTuple):
    """Conjugate gradients in progress: the point, the residual b - H x, the direction, |r|^2, and whether to stop."""

    x: Any
    r: Any
    d: Any
    rr: Array
    steps: Array
    stopped: Array


def _started(b: Any) -> _Search:
    zeros = tree.zeros_like(b)
    return _Search(zeros, b, b, dot(b, b), jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _going(least: Array, limit: int) -> Callable[[_Search], Array]:
    """Returns the condition under which a search continues; NaN ends it."""
    return lambda s: (s.rr > least) & (s.steps < limit) & ~s.stopped


def _turned(s: _Search, x: Any, r: Any, stopped: Array) -> _Search:
    """Returns the search at its next point, with a new direction."""
    rr = dot(r, r)
    return _Search(x, r, _plus(r, rr / s.rr, s.d), rr, s.steps + 1, stopped)


def truncated(times: Callable[[Any], Any], b: Any, tolerance: Array, limit: int) -> tuple[Any, Array]:
    """Returns an approximate solution x of H x = b, and the number of products."""

    def step(s: _Search) -> _Search:
        hd = times(s.d)
        curvature = dot(s.d, hd)
        negative = curvature <= 0
        along = s.rr / jnp.where(negative, 1, curvature)
        # At negative curvature stop here; only the first direction is still taken, with factor 1.
        first = jnp.where(s.steps == 0, 1, 0).astype(along.dtype)
        return _turned(s, _plus(s.x, jnp.where(negative, first, along), s.d), _plus(s.r, -along, hd), negative)

    start = _started(b)
    s = loop(_going(tolerance.astype(start.rr.dtype) ** 2 * start.rr, limit), step, start)
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(start.rr), x, jnp.nan), s.x), s.steps


def steihaug(
    times: Callable[[Any], Any], g: Any, radius: Array, tolerance: Array, limit: int
) -> tuple[Any, Array, Array, Array]:
    """Returns the step, the decrease that the model predicts, whether it is on the border, and the number of
    products.
    """

    def step(s: _Search) -> _Search:
        hd = times(s.d)
        curvature = dot(s.d, hd)
        negative = curvature <= 0
        along = s.rr / jnp.where(negative, 1, curvature)
        ahead = _plus(s.x, along, s.d)
        out = negative | (dot(ahead, ahead) >= radius**2)
        # |x + t d| = radius, t > 0; no digits cancel, for <x, d> >= 0.
        dd, xd, left = dot(s.d, s.d), dot(s.x, s.d), radius**2 - dot(s.x, s.x)
        border = left / (xd + jnp.sqrt(jnp.maximum(xd**2 + dd * left, jnp.finfo(dd.dtype).tiny)))
        along = jnp.where(out, jnp.maximum(border, 0), along)
        return _turned(s, _plus(s.x, along, s.d), _plus(s.r, -along, hd), out)

    start = _started(jax.tree.map(jnp.negative, g))
    s = loop(_going(tolerance.astype(start.rr.dtype) ** 2 * start.rr, limit), step, start)
    p = jax.tree.map(lambda x: jnp.where(jnp.isfinite(start.rr), x, jnp.nan), s.x)
    # -m(p) = <p, -g - H p / 2>, where r = -g - H p
    return p, dot(p, jax.tree.map(lambda r, g: (r - g) / 2, s.r, g)), s.stopped, s.steps
