"""Penalties: turn constraints into terms of the loss.

    quadratic    f + w/2 (sum_i max(g_i, 0)^2 + sum_j h_j^2)      smooth; solves the problem in the limit of large w
    exact        f + w (sum_i max(g_i, 0) + sum_j |h_j|)          not smooth; solves the problem for w above a bound

The minimum of the exact penalty is the solution of the problem if w exceeds the largest multiplier (Nocedal and Wright,
2006, "Numerical Optimization", theorem 17.3).
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
from gradtx.types import Params

__all__ = ["penalty"]


class penalty(Problem):
    """The loss with a penalty on violated constraints: a function `problem(params, *batch)` to differentiate.

    The simplest way to train under constraints that need to hold only approximately. For exact constraints take
    `lagrangian` or `augmented_lagrangian`.

        loss + weight/2 * (sum max(inequality, 0)^2 + sum equality^2)      'quadratic'
        loss + weight * (sum max(inequality, 0) + sum |equality|)          'exact'

    The exact penalty has a kink where a constraint just holds; its derivative there is 0. `problem.violation(params)`
    returns the largest violation.

    Args:
      loss: Function `loss(params, *batch)` that returns a real scalar; with `has_aux` a pair of the loss and anything
        else.
      weight: The factor of the penalty, a number (default 1). Not negative. It may grow during a run, with
        `problem.replace(weight=...)`, without compiling again.
      inequality: Function of the parameters that returns a tree of real arrays, each entry of which has to be at most
        0. None by default; at least one of `inequality` and `equality` is needed.
      equality: Function of the parameters that returns a tree of real arrays, each entry of which has to be 0. None by
        default.
      has_aux: Whether `loss`, and then the penalized loss too, returns a pair. Default False.
      kind: 'quadratic' (default), smooth but approximate; or 'exact', with a kink.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> problem = gx.penalty(lambda x: jnp.sum(x**2), 3.0, inequality=lambda x: 1 - x, kind="exact")
      >>> gx.minimize(problem.replace(weight=1.0), jnp.zeros(1), tol=1e-3).params.round(3)
      Array([0.5], dtype=float32)
      >>> print(problem(jnp.zeros(1)), problem.violation(jnp.zeros(1)))
      3.0 1.0

    Raises:
      TypeError: An argument is not a function, or a constraint returns something else than a tree of real
        floating-point arrays.
      ValueError: There is no constraint, or `weight` is negative.
    """

    weight: Number = number(default=1.0, ge=0)
    kind: str = choice(default="quadratic", options=("quadratic", "exact"), kw_only=True)

    def __call__(self, params: Params, *args: Any, **kwargs: Any) -> Any:
        """Returns the penalized loss at `params`.

        Args:
          params: The parameters.
          args: Further arguments of the loss, such as a batch.
          kwargs: Further keyword arguments of the loss.
        """
        found = jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), self.constraints(params))
        over = jax.tree.map(_positive, found["inequality"])
        size = jnp.abs if self.kind == "exact" else _half_square  # the derivative of abs at 0 is 0
        terms = jax.tree.map(lambda x: self.weight * jnp.sum(size(x)), (over, found["equality"]))
        return self._with_loss(params, args, kwargs, terms)


def _positive(x: Array) -> Array:
    return jnp.where(x <= 0, 0, x)  # NaN stays visible


def _half_square(x: Array) -> Array:
    return 0.5 * x * x
