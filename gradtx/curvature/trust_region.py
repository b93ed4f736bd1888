"""Newton's method within a trust region.

The model m(p) = <g, p> + <p, H p> / 2 of the function is minimized over |p| <= radius,

    "steihaug"   by conjugate gradients from p = 0, without the matrix, until |g + H p| <= min(forcing, sqrt(|g|)) |g|
                 or until the border; directions of negative curvature are followed to the border (Steihaug, 1983, "The
                 Conjugate Gradient Method and Trust Regions in Large Scale Optimization")
    "exact"      as p = -(H + lambda I)^-1 g with the lambda >= 0 for which H + lambda I is positive semidefinite and
                 |p| = radius, or lambda = 0 if that p is shorter; if g has no part along the lowest curvature, as at a
                 saddle point, p still gets one (More and Sorensen, 1983, "Computing a Trust Region Step")

and then, as in Nocedal and Wright, 2006, "Numerical Optimization", algorithm 4.1,

    ratio = (f(x) - f(x + p)) / -m(p)
    radius: |p| / 4 if ratio < 1/4; doubled, up to max_radius, if ratio > 3/4 and p is on the border
    update: p if ratio > eta, else 0
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, mesh, tree
from gradtx.core.branch import inlined
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.slots import counter, per_tree
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import apply_updates
from gradtx.core.value import choice, static
from gradtx.curvature import cg
from gradtx.curvature.newton import gain_ratio, required_function
from gradtx.curvature.products import hessian
from gradtx.types import Params, State, Updates

__all__ = ["TrustRegionState", "trust_region_newton"]


class TrustRegionState(NamedTuple):
    """State of `trust_region_newton`.

    `count` is the number of steps taken, `radius` the radius of the next step, and `cg_steps` the number of
    products with the Hessian in the last step.
    """

    count: Array = counter()
    radius: Array = per_tree(start="radius", signed=False)
    cg_steps: Array = counter()


_ROUNDS = 60
"""Iterations of Newton's method for lambda, which halves the bracket if a step would leave it."""


class trust_region_newton(Stateful, state=TrustRegionState, needs=("params", "value_fn"), real=True):
    """Newton's method within a trust region: steps that are limited to a radius which adapts to their success.

    A complete method that needs neither a learning rate nor a line search. Use it for deterministic functions that
    are far from convex; it escapes saddle points. `update` needs params and `value_fn`, and uses `value` if it is
    given. If the function decreases too little, the update is zero and the radius shrinks. The Hessian is computed
    in the parameters' own dtype. Derivatives treat the step as a constant.

    Args:
      radius: Radius of the first step, the largest norm of the update. Positive; 1 by default.
      max_radius: Upper bound on the radius. Positive; infinite by default.
      eta: A step is taken if its decrease exceeds this fraction of the predicted decrease. In [0, 1/4]; 0.15 by
        default.
      forcing: Relative error at which the inner iteration of "steihaug" stops. In (0, 1); 0.5 by default.
      max_cg_steps: Largest number of products with the Hessian per step of "steihaug". At least 1; None (default)
        for the number of parameters.
      subproblem: "steihaug" (default) uses Hessian-vector products and holds seven vectors like the parameters.
        "exact" forms a few n x n matrices, for up to some hundred parameters.

    Returns:
      A transformation. State: three numbers.

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
    max_cg_steps: Any = static(default=None, check=cg.check_steps)
    subproblem: str = choice(default="steihaug", options=("steihaug", "exact"))

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, TrustRegionState]:
        count = counted(state.count)
        if not tree.size(updates):
            return updates, state._replace(count=count)
        value_fn = required_function(type(self).__name__, "value_fn", updates, params, extra)
        now = lax.stop_gradient(self.at(state.count))
        updates, params, radius = lax.stop_gradient((updates, params, state.radius))
        g, size = cg.unit(updates)
        # Dividing the function by the size of its gradient keeps products of gradients and steps in range.
        least = float(jnp.finfo(size.dtype).tiny) ** 0.5
        g, size = jax.tree.map(lambda x: x * jnp.minimum(size / least, 1), g), jnp.maximum(size, least)
        # Larger than any step, but small enough that products of its square do not overflow.
        bound = jnp.minimum(jnp.asarray(radius, size.dtype), float(jnp.finfo(size.dtype).max) ** 0.4)
        if self.subproblem == "exact":
            b, unravel = tree.raveled(g)
            p, promised, border = _exact(hessian(value_fn, params).astype(b.dtype) / size, b, bound)
            p, steps = unravel(p), jnp.zeros_like(count)
        else:
            enough = cg.tolerance(updates, now.forcing, size)
            limit = self.max_cg_steps or tree.size(updates)
            p, promised, border, steps = cg.steihaug(cg.products(value_fn, params, size), g, bound, enough, limit)
        p = jax.tree.map(lambda x, p: leaf.narrow(x, jnp.result_type(p)), p, params)
        value = extra.get("value")
        value = value_fn(params) if value is None else lax.stop_gradient(value)
        ratio = gain_ratio(value, value_fn(apply_updates(params, p)), promised * size)
        length = tree.norm(p).astype(radius.dtype)
        smaller = jnp.where(length > 0, jnp.maximum(length / 4, float(jnp.finfo(radius.dtype).tiny)), radius)
        larger = jnp.where(border, jnp.minimum(2 * radius, now.max_radius), radius)
        radius = jnp.where(ratio < 0.25, smaller, jnp.where(ratio > 0.75, larger, radius))
        radius = leaf.narrow(radius, state.radius.dtype)
        p = jax.tree.map(lambda x: jnp.where((ratio > now.eta) | jnp.isnan(x), x, 0), p)  # NaN stays visible
        taken = jax.tree.map(lambda x, g: leaf.narrow(x, jnp.result_type(g)), p, updates)
        return lax.stop_gradient((taken, TrustRegionState(count=count, radius=radius, cg_steps=steps)))


@inlined
def _exact(matrix: Array, g: Array, radius: Array) -> tuple[Array, Array, Array]:
    """Returns the step, the decrease that its model predicts, and whether it is on the border."""
    w, v = jnp.linalg.eigh(matrix)
    b = v.T @ g

    def at(shift: Array) -> Array:
        shifted = w + shift
        return jnp.where(b == 0, 0, b / jnp.where(shifted > 0, shifted, jnp.finfo(w.dtype).tiny))

    least = jnp.maximum(-w[0], 0)
    inside = (w[0] > 0) & (tree.norm(at(jnp.zeros_like(least))) <= radius)
    # Above the least shift |p| decreases, and is at most |g| / (shift - least).
    low, high = least, least + tree.norm(b) / radius * (1 + 8 * jnp.finfo(w.dtype).eps)

    def closer(_: Any, bracket: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, shift = bracket
        p = at(shift)
        length = tree.norm(p)
        low, high = jnp.where(length > radius, shift, low), jnp.where(length > radius, high, shift)
        # Newton's method for 1 / |p| = 1 / radius, which is nearly linear in the shift.
        fall = leaf.ratio(jnp.sum(p * p / jnp.maximum(w + shift, jnp.finfo(w.dtype).tiny)), length * length)
        newton = shift + leaf.ratio(length / radius - 1, fall)
        return low, high, jnp.where((low < newton) & (newton < high), newton, low + (high - low) / 2)

    _, high, _ = mesh.fori_loop(0, _ROUNDS, closer, (low, high, high))
    p = -at(jnp.where(inside, 0, high))
    # If rounding hides the part of g along the lowest curvature, the step follows that direction to the border.
    short = (w[0] < 0) & (jnp.sum(p * p) < (1 - 1e-6) * radius**2)
    lowest = jnp.where(b[0] > 0, -1, 1) * jnp.sqrt(jnp.maximum(radius**2 - jnp.sum(p[1:] ** 2), 0))
    p = p.at[0].set(jnp.where(short, lowest, p[0]))
    return v @ p, -jnp.sum(b * p + w * p * p / 2), ~inside
