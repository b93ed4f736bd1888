"""Newton's method without the matrix: conjugate gradients on Hessian-vector products, stopped early.

`scale_by_newton_cg` solves H u = g from u = 0 until

    |g - H u| <= min(forcing, sqrt(|g|)) * |g|

or until a search direction d has <d, H d> <= 0, where it keeps the u found so far: g itself if d is the first (Nocedal
and Wright, 2006, "Numerical Optimization", algorithm 7.1). With that bound the steps converge superlinearly (Dembo and
Steihaug, 1983, "Truncated-Newton Algorithms for Large-Scale Unconstrained Optimization").

`trust_region_newton` minimizes the model m(p) = <g, p> + <p, H p> / 2 over |p| <= radius in the same way: it stops at
the border too, and negative curvature is followed to it (Steihaug, 1983, "The Conjugate Gradient Method and Trust
Regions in Large Scale Optimization"). Then, as in Nocedal and Wright's algorithm 4.1,

    ratio = (f(x) - f(x + p)) / -m(p)
    radius: |p| / 4 where ratio < 1/4; doubled, up to max_radius, where ratio > 3/4 and p is on the border
    update: p where ratio > eta, else 0
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.core.chain import chain
from gradtx.core.engine import resolve
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.state import Once, counted
from gradtx.core.transformation import GradientTransformation, apply_updates
from gradtx.core.value import static
from gradtx.curvature.linesearch import descending
from gradtx.curvature.newton import gain_ratio, needed
from gradtx.curvature.products import check_like, hvp

__all__ = ["ScaleByNewtonCGState", "TrustRegionState", "newton_cg", "scale_by_newton_cg", "trust_region_newton"]


def _check_steps(who: str, name: str, value: Any) -> int | None:
    return None if value is None else checks.integer(who, name, value, ge=1)


class ScaleByNewtonCGState(NamedTuple):
    """The steps taken, and how many products with the Hessian the last one took."""

    count: Array
    cg_steps: Once


class scale_by_newton_cg(GradientTransformation):
    """The rule of `newton_cg`, without the learning rate; `update` needs params and `value_fn`.

    `forcing` lies in (0, 1), and `max_cg_steps` is None for the number of parameters. Derivatives are those of the
    exact solution of H u = g, solved for as far as u itself, whatever made it stop.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: jnp.sum(jnp.array([1.0, 4.0]) * x**2)
    >>> x, tx = jnp.array([1.0, 2.0]), gx.scale_by_newton_cg(forcing=0.001)
    >>> updates, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    >>> print(updates.round(4), state.cg_steps)
    [1. 2.] 2

    Raises:
      TypeError: a leaf is complex.
      ValueError: params or `value_fn` is missing, or the trees differ.
    """

    forcing: Hyper = hyper(default=0.5, gt=0, lt=1)
    max_cg_steps: Any = static(default=None, check=_check_steps)

    def init(self, params: Any) -> ScaleByNewtonCGState:
        check_like(type(self).__name__, "params", params, "params", params)
        return ScaleByNewtonCGState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, ScaleByNewtonCGState]:
        self._check_extra(extra)
        self._check_state(state, ScaleByNewtonCGState)
        if not tree.size(updates):
            return updates, ScaleByNewtonCGState(counted(state.count), state.cg_steps)
        value_fn = needed(type(self).__name__, "value_fn", updates, params, extra)
        g, size = _unit(updates)
        tolerance = lax.stop_gradient(_tolerance(updates, resolve(self, "forcing", state.count), size))
        limit = self.max_cg_steps or tree.size(updates)

        def solve(matvec: Callable[[Any], Any], b: Any) -> tuple[Any, Array]:
            return _truncated(matvec, b, tolerance, limit)

        u, steps = lax.custom_linear_solve(_times(value_fn, params), g, solve, symmetric=True, has_aux=True)
        u = jax.tree.map(lambda x, g: _scaled(x, size, g), u, updates)
        return u, ScaleByNewtonCGState(counted(state.count), steps)


def newton_cg(
    learning_rate: HyperArg = 1.0,
    *,
    max_cg_steps: int | None = None,
    forcing: HyperArg = 0.5,
    linesearch: Any = None,
) -> chain:
    """Newton's method by truncated conjugate gradients. State: two integers. `update` needs params and `value_fn`.

    It never forms the Hessian: a step takes up to `max_cg_steps` products with it (as many as there are parameters, if
    None), and holds five vectors like the parameters beside what a product holds. `forcing` in (0, 1) bounds the error
    of each step: smaller for fewer steps of more products. Where the Hessian is not positive definite a step still
    descends, with the gradient in the worst case, so that far from the minimum it wants a `linesearch`: a
    transformation that comes last, and gets the step.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: jnp.sum(jnp.cosh(x - jnp.arange(3.0)))
    >>> x, tx = jnp.ones(3), gx.newton_cg()
    >>> state = tx.init(x)
    >>> step = jax.jit(lambda x, state: tx.update(jax.grad(f)(x), state, x, value_fn=f))
    >>> for _ in range(5):
    ...     updates, state = step(x, state)
    ...     x = x + updates
    >>> print(jnp.abs(x - jnp.arange(3.0)).max() < 1e-5)
    True

    Raises:
      TypeError: `linesearch` is no transformation, `max_cg_steps` no integer.
      ValueError: a number is out of its range.
    """
    return descending(scale_by_newton_cg(forcing, max_cg_steps), learning_rate, linesearch)


class TrustRegionState(NamedTuple):
    """The steps taken, the radius of the next, and how many products with the Hessian the last one took."""

    count: Array
    radius: Once
    cg_steps: Once


class trust_region_newton(GradientTransformation):
    """Newton's method within a trust region, by Steihaug's conjugate gradients: it descends by itself.

    `update` needs params and `value_fn`, and uses `value` where it is given. The first `radius` is positive, and so is
    `max_radius`, infinite by default; `eta`, the least share of the promised gain with which a step is taken, lies in
    [0, 1/4]. A step that is not taken is a zero update, and the radius shrinks. `forcing`, in (0, 1), and
    `max_cg_steps` are those of `newton_cg`. State: three numbers; a step holds seven vectors like the parameters beside
    what a product holds. It counts as a constant for derivatives.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2
    >>> x, tx = jnp.array([0.1, 3.0]), gx.trust_region_newton()
    >>> updates, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    >>> print(jnp.linalg.norm(updates).round(4), state.radius)
    1.0 2.0

    Raises:
      TypeError: a leaf is complex.
      ValueError: params or `value_fn` is missing, or the trees differ.
    """

    radius: Hyper = hyper(default=1.0, gt=0)
    max_radius: Hyper = hyper(default=math.inf, gt=0, infinite=True)
    eta: Hyper = hyper(default=0.15, ge=0, le=0.25)
    forcing: Hyper = hyper(default=0.5, gt=0, lt=1)
    max_cg_steps: Any = static(default=None, check=_check_steps)

    def init(self, params: Any) -> TrustRegionState:
        check_like(type(self).__name__, "params", params, "params", params)
        zero = jnp.zeros((), jnp.int32)
        return TrustRegionState(zero, tree.number(params, resolve(self, "radius", 0)), jnp.zeros_like(zero))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, TrustRegionState]:
        self._check_extra(extra)
        self._check_state(state, TrustRegionState)
        count = counted(state.count)
        if not tree.size(updates):
            return updates, state._replace(count=count)
        value_fn = needed(type(self).__name__, "value_fn", updates, params, extra)
        names = "max_radius", "eta", "forcing"
        max_radius, eta, forcing = (lax.stop_gradient(resolve(self, name, state.count)) for name in names)
        updates, params, radius = lax.stop_gradient((updates, params, state.radius))
        g, size = _unit(updates)
        tolerance = _tolerance(updates, forcing, size)
        # So far out that no step ends there, and near enough for products of its square.
        bound = jnp.minimum(radius / size, float(jnp.finfo(size.dtype).max) ** 0.4).astype(size.dtype)
        limit = self.max_cg_steps or tree.size(updates)
        p, promised, border, steps = _steihaug(_times(value_fn, params), g, bound, tolerance, limit)
        p = jax.tree.map(lambda x, p: _scaled(x, size, p), p, params)
        value = extra.get("value")
        value = value_fn(params) if value is None else lax.stop_gradient(value)
        ratio = gain_ratio(value, value_fn(apply_updates(params, p)), promised * size * size)
        length = tree.norm(p).astype(radius.dtype)
        smaller = jnp.where(length > 0, jnp.maximum(length / 4, float(jnp.finfo(radius.dtype).tiny)), radius)
        larger = jnp.where(border, jnp.minimum(2 * radius, max_radius), radius)
        radius = jnp.where(ratio < 0.25, smaller, jnp.where(ratio > 0.75, larger, radius))
        radius = leaf.narrow(radius, state.radius.dtype)
        p = jax.tree.map(lambda x: jnp.where((ratio > eta) | jnp.isnan(x), x, 0), p)  # NaN stays visible
        taken = jax.tree.map(lambda x, g: leaf.narrow(x, jnp.result_type(g)), p, updates)
        return lax.stop_gradient((taken, TrustRegionState(count, radius, steps)))


def _unit(updates: Any) -> tuple[Any, Array]:
    """The updates in float32 or wider over their largest entry, and that: so that no product overflows."""
    wide = tree.number(updates, 0).dtype
    g = jax.tree.map(lambda g: jnp.asarray(g).astype(wide), updates)
    size = lax.stop_gradient(functools.reduce(jnp.maximum, [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(g) if x.size]))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    return jax.tree.map(lambda x: x / size, g), size


def _tolerance(updates: Any, forcing: Any, like: Array) -> Array:
    """The residual to stop at, relative to the gradient; not below what rounding leaves to find."""
    return jnp.maximum(jnp.minimum(forcing, jnp.sqrt(tree.norm(updates))), float(jnp.finfo(like.dtype).eps))


def _scaled(x: Array, size: Array, like: Any) -> Array:
    """The product x * size in the dtype of `like`; a finite entry stays finite."""
    limit = float(jnp.finfo(x.dtype).max)
    return leaf.narrow(jnp.where(jnp.isfinite(x), jnp.clip(x * size, -limit, limit), x), jnp.result_type(like))


def _times(value_fn: Callable[[Any], Any], params: Any) -> Callable[[Any], Any]:
    """The product with the Hessian, of vectors in float32 or wider."""

    def times(v: Any) -> Any:
        return jax.tree.map(lambda x, v: x.astype(v.dtype), hvp(value_fn, params, v), v)

    return times


def _dot(a: Any, b: Any) -> Array:
    return functools.reduce(jnp.add, [jnp.sum(x * y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)])


def _plus(x: Any, factor: Array, d: Any) -> Any:
    return jax.tree.map(lambda x, d: x + factor * d, x, d)


class _Search(NamedTuple):
    """Conjugate gradients on their way: the point, the residual b - H x, the direction, |r|^2, and how it goes."""

    x: Any
    r: Any
    d: Any
    rr: Array
    steps: Array
    stopped: Array


def _started(b: Any) -> _Search:
    zeros = jax.tree.map(jnp.zeros_like, b)
    return _Search(zeros, b, b, _dot(b, b), jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _going(least: Array, limit: int) -> Callable[[_Search], Array]:
    """Whether a search goes on; NaN ends it."""
    return lambda s: (s.rr > least) & (s.steps < limit) & ~s.stopped


def _turned(s: _Search, x: Any, r: Any, stopped: Array) -> _Search:
    """The search at its next point, with a new direction."""
    rr = _dot(r, r)
    return _Search(x, r, _plus(r, rr / s.rr, s.d), rr, s.steps + 1, stopped)


def _truncated(times: Callable[[Any], Any], b: Any, tolerance: Array, limit: int) -> tuple[Any, Array]:
    """An x with H x near b, and the number of products."""

    def step(s: _Search) -> _Search:
        hd = times(s.d)
        curvature = _dot(s.d, hd)
        negative = curvature <= 0
        along = s.rr / jnp.where(negative, 1, curvature)
        # Down to where the curvature ends: the first direction itself, later nothing more.
        first = jnp.where(s.steps == 0, 1, 0).astype(along.dtype)
        return _turned(s, _plus(s.x, jnp.where(negative, first, along), s.d), _plus(s.r, -along, hd), negative)

    start = _started(b)
    s = lax.while_loop(_going(tolerance.astype(start.rr.dtype) ** 2 * start.rr, limit), step, start)
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(start.rr), x, jnp.nan), s.x), s.steps


def _steihaug(
    times: Callable[[Any], Any], g: Any, radius: Array, tolerance: Array, limit: int
) -> tuple[Any, Array, Array, Array]:
    """The step, what its model promises, whether it is on the border, and the number of products."""

    def step(s: _Search) -> _Search:
        hd = times(s.d)
        curvature = _dot(s.d, hd)
        negative = curvature <= 0
        along = s.rr / jnp.where(negative, 1, curvature)
        ahead = _plus(s.x, along, s.d)
        out = negative | (_dot(ahead, ahead) >= radius**2)
        # |x + t d| = radius, t > 0; no digits cancel, for <x, d> >= 0.
        dd, xd, left = _dot(s.d, s.d), _dot(s.x, s.d), radius**2 - _dot(s.x, s.x)
        border = left / (xd + jnp.sqrt(jnp.maximum(xd**2 + dd * left, jnp.finfo(dd.dtype).tiny)))
        along = jnp.where(out, jnp.maximum(border, 0), along)
        return _turned(s, _plus(s.x, along, s.d), _plus(s.r, -along, hd), out)

    start = _started(jax.tree.map(jnp.negative, g))
    s = lax.while_loop(_going(tolerance.astype(start.rr.dtype) ** 2 * start.rr, limit), step, start)
    p = jax.tree.map(lambda x: jnp.where(jnp.isfinite(start.rr), x, jnp.nan), s.x)
    # -m(p) = <p, -g - H p / 2>, where r = -g - H p
    return p, _dot(p, jax.tree.map(lambda r, g: (r - g) / 2, s.r, g)), s.stopped, s.steps
