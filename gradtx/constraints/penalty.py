"""Penalties: constraints as terms of the loss.

    quadratic    f + w/2 (sum_i max(g_i, 0)^2 + sum_j h_j^2)      smooth; solves the problem as w grows
    exact        f + w (sum_i max(g_i, 0) + sum_j |h_j|)          not smooth; solves it from a finite w on

The exact penalty has the solution of the problem as its minimum once w exceeds the largest multiplier (Nocedal and
Wright, 2006, "Numerical Optimization", theorem 17.3).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.constraints.problem import Problem
from gradtx.core.hyper import Number, number
from gradtx.core.value import choice

__all__ = ["penalty"]


class penalty(Problem):
    """The loss with a penalty on violated constraints: a function of the parameters, `problem(params, *batch)`.

    Args:
      loss: `loss(params, *batch)`, a real scalar; with `has_aux` a pair of it and anything else.
      weight: the number w (default 1), at least 0: a leaf of the value, so that a growing one retraces nothing.
      inequality, equality: functions of the parameters to trees of real arrays, <= 0 and == 0; one may be left out.
      kind: 'quadratic' (the default) or 'exact'.

    At a constraint that is just fulfilled the exact penalty has a kink; its derivative there is 0.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> problem = gx.penalty(lambda x: jnp.sum(x**2), 3.0, inequality=lambda x: 1 - x, kind="exact")
    >>> gx.minimize(problem.replace(weight=1.0), jnp.zeros(1), tol=1e-3).params.round(3)
    Array([0.5], dtype=float32)
    >>> print(problem(jnp.zeros(1)), problem.violation(jnp.zeros(1)))
    3.0 1.0

    Raises:
      TypeError: a function is none; a constraint returns what is no tree of real floating arrays.
      ValueError: there is no constraint; the weight is negative.
    """

    weight: Number = number(default=1.0, ge=0)
    kind: str = choice(default="quadratic", options=("quadratic", "exact"), kw_only=True)

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """The penalized loss at `params`; what follows goes to the loss."""
        found = jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), self.constraints(params))
        over = jax.tree.map(_positive, found["inequality"])
        size = jnp.abs if self.kind == "exact" else _half_square  # the derivative of abs at 0 is 0
        terms = jax.tree.map(lambda x: self.weight * jnp.sum(size(x)), (over, found["equality"]))
        return self._with_loss(params, args, kwargs, terms)


def _positive(x: Array) -> Array:
    return jnp.where(x <= 0, 0, x)  # NaN stays visible


def _half_square(x: Array) -> Array:
    return 0.5 * x * x
