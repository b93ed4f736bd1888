"""Newton's method without the matrix: conjugate gradients on Hessian-vector products, stopped early.

`scale_by_newton_cg` solves H u = g from u = 0 until

    |g - H u| <= min(forcing, sqrt(|g|)) * |g|

or until a search direction d has <d, H d> <= 0. Then it returns the u found so far, or g itself if d is the first
direction (Nocedal and Wright, 2006, "Numerical Optimization", algorithm 7.1). With that bound the steps converge
superlinearly (Dembo and Steihaug, 1983, "Truncated-Newton Algorithms for Large-Scale Unconstrained Optimization").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from gradtx import tree
from gradtx.core.branch import is_traced
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.slots import counter
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.value import static
from gradtx.curvature import cg
from gradtx.curvature.linesearch import descending
from gradtx.curvature.newton import required_function
from gradtx.curvature.zoom import STRONG_WOLFE
from gradtx.types import Params, State, Updates

__all__ = ["ScaleByNewtonCGState", "newton_cg", "scale_by_newton_cg"]


class ScaleByNewtonCGState(NamedTuple):
    """State of `scale_by_newton_cg`: the number of steps, and how many products with the Hessian the last step took."""

    count: Array = counter()
    cg_steps: Array = counter()


class scale_by_newton_cg(Stateful, state=ScaleByNewtonCGState, needs=("params", "value_fn"), real=True):
    """Multiplies the gradient approximately by the inverse Hessian, by a few conjugate gradient steps.

    The direction of `newton_cg` without learning rate and line search. `update` needs params and `value_fn`, the
    loss as a function of the parameters. Products with the Hessian are computed in the parameters' own dtype.
    Derivatives through the step are those of the exact solution of H u = g, whatever made the iteration stop.

    Args:
      forcing: Relative error at which the inner iteration stops; smaller means fewer, dearer steps. In (0, 1); 0.5
        by default.
      max_cg_steps: Largest number of products with the Hessian per step. At least 1; None (default) for the number
        of parameters.

    Returns:
      A transformation. State: two integers.

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
    max_cg_steps: Any = static(default=None, check=cg.check_steps)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, ScaleByNewtonCGState]:
        if not tree.size(updates):
            return updates, state._replace(count=counted(state.count))
        value_fn = required_function(type(self).__name__, "value_fn", updates, params, extra)
        g, size = cg.unit(updates)
        enough = lax.stop_gradient(cg.tolerance(updates, self.at(state.count).forcing, size))
        limit = self.max_cg_steps or tree.size(updates)

        def solve(matvec: Callable[[Any], Any], b: Any) -> tuple[Any, Array]:
            return cg.truncated(matvec, b, enough, limit)

        u, steps = _solved(cg.products(value_fn, params), g, solve)
        u = jax.tree.map(lambda x, g: cg.scaled(x, size, g), u, updates)
        return u, ScaleByNewtonCGState(count=counted(state.count), cg_steps=steps)


def _solved(matvec: Callable[[Any], Any], b: Any, solve: Callable[..., tuple[Any, Array]]) -> tuple[Any, Array]:
    """Returns `solve(matvec, b)` with the derivatives of the exact solution, which eager code does not need."""
    if not is_traced(b):
        found = solve(matvec, b)
        if not is_traced(found):
            return found
    return lax.custom_linear_solve(matvec, b, solve, symmetric=True, has_aux=True)


@constructor
def newton_cg(
    learning_rate: HyperArg = 1.0,
    *,
    max_cg_steps: int | None = None,
    forcing: HyperArg = 0.5,
    linesearch: Any = STRONG_WOLFE,
) -> chain:
    """Newton's method by truncated conjugate gradients, with a line search: it never forms the Hessian.

    Use it for smooth, deterministic functions of many parameters, if Hessian-vector products are cheap. It finds
    the minimum of a convex function from anywhere. If the Hessian is not positive definite a step still descends,
    in the worst case along the gradient. A step holds five vectors like the parameters, and what a Hessian-vector
    product needs.

    Args:
      learning_rate: Step size, a number or a schedule; with a line search the length of its first trial. 1 by
        default.
      max_cg_steps: Largest number of products with the Hessian per step. At least 1; None (default) for the number
        of parameters.
      forcing: Relative error at which the inner iteration stops; smaller means fewer, dearer steps. In (0, 1); 0.5
        by default.
      linesearch: A transformation that chooses the step size and comes last in the chain. By default a zoom search
        for the strong Wolfe conditions; None for pure Newton steps, which converge only near a minimum.

    Returns:
      A transformation whose `update` needs params and `value_fn`, and with a line search `value` and `grad`. State:
      two integers, and with a line search one array per parameter (4 bytes in float32).

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: jnp.sum(jnp.cosh(x - jnp.arange(3.0)))
    >>> print(gx.minimize(f, jnp.full(3, 30.0), gx.newton_cg()).params.round(3))
    [0. 1. 2.]
    >>> x, tx = jnp.ones(3), gx.newton_cg(linesearch=None)
    >>> state = tx.init(x)
    >>> step = jax.jit(lambda x, state: tx.update(jax.grad(f)(x), state, x, value_fn=f))
    >>> for _ in range(5):
    ...     updates, state = step(x, state)
    ...     x = x + updates
    >>> print(jnp.abs(x - jnp.arange(3.0)).max() < 1e-5)
    True

    Raises:
      TypeError: `linesearch` is not a transformation, or `max_cg_steps` is not an integer.
      ValueError: a number is out of its range.
    """
    return descending(scale_by_newton_cg(forcing, max_cg_steps), learning_rate, linesearch)
