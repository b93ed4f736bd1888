"""Nonlinear conjugate gradients: adds a multiple of the previous direction to the gradient.

    u_t = g_t + beta_t u_(t-1)

    "fletcher_reeves"   beta = |g_t|^2 / |g_(t-1)|^2                                        (Fletcher and Reeves, 1964)
    "polak_ribiere"     beta = max(<g_t, y> / |g_(t-1)|^2, 0)                   (Polak and Ribiere, 1969; Powell, 1984)
    "hager_zhang"       beta = max((<g_t, y> - 2 |y|^2 <g_t, d> / <d, y>) / <d, y>, -1 / (|d| min(0.01, |g_(t-1)|)))

with y = g_t - g_(t-1) and d = -u_(t-1), the direction of the previous step.

"hager_zhang" is from Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an
Efficient Line Search": it ensures <g_t, u_t> >= 7/8 |g_t|^2 for any line search. All methods restart, with beta =
0, at the first step, if u_t would not descend, and if successive gradients are far from orthogonal, |<g_t,
g_(t-1)>| >= restart_rtol |g_t|^2 (Powell, 1977, "Restart Procedures for the Conjugate Gradient Method").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Treewide
from gradtx.core.slots import counter, per_param
from gradtx.core.value import choice
from gradtx.curvature.hager_zhang import HAGER_ZHANG
from gradtx.curvature.linesearch import descending
from gradtx.types import Params, Slots, Updates

__all__ = ["NonlinearCGState", "nonlinear_cg", "scale_by_nonlinear_cg"]

_METHODS = ("hager_zhang", "polak_ribiere", "fletcher_reeves")
_ETA = 0.01


class NonlinearCGState(NamedTuple):
    """State of nonlinear conjugate gradients: the number of steps, the previous gradient and the previous direction."""

    count: Array = counter()
    updates: Array = per_param()
    direction: Array = per_param()


class scale_by_nonlinear_cg(Treewide, state=NonlinearCGState):
    """Combines the gradient with the previous direction to a conjugate direction.

    The direction of `nonlinear_cg` without learning rate and line search, to build your own chain.

    Args:
      method: The formula for the multiple of the previous direction: "hager_zhang" (default), "polak_ribiere" or
        "fletcher_reeves". The first is the most robust.
      restart_rtol: Restart from the gradient if the inner product of two successive gradients exceeds this fraction
        of the squared norm. Positive; 0.1 by default, infinity for no such restarts.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_nonlinear_cg("fletcher_reeves")
    >>> _, state = tx.update(jnp.array([2.0, 0.0]), tx.init(jnp.zeros(2)))
    >>> print(tx.update(jnp.array([0.0, 1.0]), state)[0])
    [0.5 1. ]
    """

    method: str = choice(default="hager_zhang", options=_METHODS)
    restart_rtol: Hyper = hyper(default=0.1, gt=0, infinite=True)

    def measure(self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array) -> tuple[Array, Any]:
        last, direction = slots.updates, slots.direction
        lengths = tree.norm(updates), tree.norm(last), tree.norm(direction)
        # Scaled to a length of at most 1, so that squares do not overflow.
        size = jnp.maximum(jnp.maximum(lengths[0], lengths[1]), lengths[2])
        scale = leaf.ratio(jnp.ones_like(size), size)
        g, last, u = (jax.tree.map(lambda x: x * scale, part) for part in (updates, last, direction))
        gg, ll, gl = tree.norm_sq(g), tree.norm_sq(last), tree.real_vdot(g, last)
        y, ug = jax.tree.map(jnp.subtract, g, last), tree.real_vdot(u, g)
        if self.method == "fletcher_reeves":
            beta = leaf.ratio(gg, ll)
        elif self.method == "polak_ribiere":
            beta = jnp.maximum(leaf.ratio(gg - gl, ll), 0)
        else:
            dy = -tree.real_vdot(u, y)
            beta = leaf.ratio(gg - gl + 2 * tree.norm_sq(y) * leaf.ratio(ug, dy), dy)
            beta = jnp.maximum(beta, -leaf.ratio(1.0, lengths[2] * jnp.minimum(_ETA, lengths[1])))
        kept = (gg + beta * ug > 0) & (jnp.abs(gl) < self.restart_rtol * gg)
        return jnp.where(kept & (t > 1), beta, 0), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        u = leaf.clip(g + shared * slots.direction, float(jnp.finfo(g.dtype).max))
        return u, slots._replace(updates=g, direction=u)


@constructor
def nonlinear_cg(
    learning_rate: HyperArg | None = None,
    method: str = "hager_zhang",
    *,
    restart_rtol: HyperArg = 0.1,
    linesearch: Any = HAGER_ZHANG,
) -> chain:
    """Nonlinear conjugate gradients with a line search.

    Use it for large, smooth, deterministic problems if the memory of `lbfgs` (22 arrays per parameter) is too
    much; otherwise `lbfgs` usually needs fewer evaluations.

    Args:
      learning_rate: Factor of the direction before the line search, a number or a schedule. None (default) for 1.
      method: The formula for the multiple of the previous direction: "hager_zhang" (default), "polak_ribiere" or
        "fletcher_reeves". The first is the most robust.
      restart_rtol: Restart from the gradient if the inner product of two successive gradients exceeds this fraction
        of the squared norm. Positive; 0.1 by default, infinity for no such restarts.
      linesearch: A transformation that chooses the step size and comes last in the chain. By default Hager and
        Zhang's search; None for none.

    Returns:
      A transformation whose `update` needs params, and with a line search `value`, `grad` and `value_fn`. State:
      two arrays per parameter, and one more with a line search (12 bytes per parameter in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> result = gx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gx.nonlinear_cg(), tol=1e-3)
    >>> print(result.params.round(2))
    [1. 1.]

    References:
      Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search".
    """
    return descending(scale_by_nonlinear_cg(method, restart_rtol), learning_rate, linesearch)
