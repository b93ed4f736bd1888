"""Nonlinear conjugate gradients: the gradient, and some of the last direction.

    u_t = g_t + beta_t u_(t-1)

    "fletcher_reeves"   beta = |g_t|^2 / |g_(t-1)|^2                                        (Fletcher and Reeves, 1964)
    "polak_ribiere"     beta = max(<g_t, y> / |g_(t-1)|^2, 0)                   (Polak and Ribiere, 1969; Powell, 1984)
    "hager_zhang"       beta = max((<g_t, y> - 2 |y|^2 <g_t, d> / <d, y>) / <d, y>, -1 / (|d| min(0.01, |g_(t-1)|)))

with y = g_t - g_(t-1) and d = -u_(t-1), the way that the last step went.

The last is from Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line
Search": <g_t, u_t> >= 7/8 |g_t|^2 whatever the line search did. All start anew, with beta = 0, at the first step, where
u_t would not descend, and where the gradients are far from orthogonal, |<g_t, g_(t-1)>| >= restart_rtol |g_t|^2
(Powell, 1977, "Restart Procedures for the Conjugate Gradient Method").
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
    """The steps taken, the last gradient and the last direction."""

    count: Array = counter()
    updates: Array = per_param()
    direction: Array = per_param()


class scale_by_nonlinear_cg(Treewide, state=NonlinearCGState):
    """The direction of nonlinear conjugate gradients.

    `method` is one of those above; `restart_rtol` (default 0.1) is positive, and infinite for no such restarts.

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
        # Of gradients of length 1 at most the squares do not overflow.
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
    """Nonlinear conjugate gradients with a line search, by default Hager and Zhang's; None for none.

    State: two arrays per parameter, and what the line search keeps. `update` needs params, `value`, `grad` and
    `value_fn` with a line search. `learning_rate` multiplies the direction; None is 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> result = gx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gx.nonlinear_cg(), tol=1e-3)
    >>> print(result.params.round(2))
    [1. 1.]
    """
    return descending(scale_by_nonlinear_cg(method, restart_rtol), learning_rate, linesearch)
