"""Estimates the diagonal of the Hessian for an inner transformation that preconditions by it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax import Array

from gradtx import checks, tree
from gradtx.core.branch import branch
from gradtx.core.composite import Wrapper
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.value import choice, integer, seed
from gradtx.curvature.newton import required_function
from gradtx.curvature.products import gauss_newton_bartlett_diag, hutchinson_diag
from gradtx.types import Params, State, Updates

__all__ = ["HESSIAN_DIAG_ESTIMATORS", "WithHessianDiagState", "with_hessian_diag"]

HESSIAN_DIAG_ESTIMATORS = {
    "hutchinson": ("value_fn", hutchinson_diag),
    "gauss_newton_bartlett": ("outputs_fn", gauss_newton_bartlett_diag),
}
"""Maps each estimator's name to the extra argument that it needs, and to its function."""


class WithHessianDiagState(NamedTuple):
    """State of `with_hessian_diag`: the number of steps, the random key of the next estimate, and the inner state."""

    count: Array = counter()
    rng_key: Array = per_tree(start="first_key")
    inner_state: Any = child_state()


class with_hessian_diag(Wrapper, state=WithHessianDiagState, takes=("outputs_fn",), real=True):
    """Estimates the Hessian's diagonal and passes it to the inner transformation as the extra argument `hessian_diag`.

    Use it around `scale_by_hessian_diag`, `adahessian` or `scale_by_sophia`. `update` needs params and a function as an
    extra argument, which depends on `estimator`. Parameters must be real.

    Args:
      inner: A transformation that takes `hessian_diag`.
      update_interval: Number of steps between two estimates, beginning with the first step. At least 1; 1 by default.
        At the other steps nothing is computed and the diagonal is zero. So use an interval above 1 only for
        transformations such as `scale_by_sophia` that have the same interval and ignore the diagonal at these steps.
      estimator: "hutchinson" (default) needs `value_fn`, the loss as a function of the parameters; see
        `hutchinson_diag`. "gauss_newton_bartlett" needs `outputs_fn`, the logits as a function of the parameters;
        see `gauss_newton_bartlett_diag`.
      key: Seed of the random vectors or labels, an integer; 0 by default. With `update(..., key=k)` the estimate is
        drawn from the random key `k` instead, and the key in the state is unchanged.

    Returns:
      A transformation. State: the inner state, a counter and a random key.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 100.0]) * x**2)
    >>> tx = gx.with_hessian_diag(gx.chain(gx.scale_by_hessian_diag(), gx.scale(-1.0)))
    >>> x = jnp.array([3.0, -2.0])
    >>> updates, state = tx.update(jax.grad(loss)(x), tx.init(x), x, value_fn=loss)
    >>> print(x + updates)
    [0. 0.]

    Raises:
      TypeError: a leaf is complex.
      ValueError: params or the function is missing.
    """

    update_interval: int = integer(default=1, ge=1)
    estimator: str = choice(default="hutchinson", options=tuple(HESSIAN_DIAG_ESTIMATORS))
    key: int = seed(default=0)

    def first_key(self, params: Any) -> Array:
        """Returns the random key that the seed gives."""
        del params
        return jax.random.PRNGKey(self.key)

    def init(self, params: Params) -> WithHessianDiagState:
        who, leaves = type(self).__name__, jax.tree.leaves(params)
        checks.floating(who, "params", params, leaves)
        checks.real(who, "params", params, leaves)
        return super().init(params)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, WithHessianDiagState]:
        who, rng_key, given = type(self).__name__, state.rng_key, extra.get("key")
        diagonal = params
        if jax.tree.leaves(updates):
            name, estimate = HESSIAN_DIAG_ESTIMATORS[self.estimator]
            fn = required_function(who, name, updates, params, extra)

            def renewed() -> tuple[Any, Any]:
                following, sample = jax.random.split(rng_key) if given is None else (rng_key, given)
                return estimate(fn, params, sample), following

            now = state.count % self.update_interval == 0
            diagonal, rng_key = branch(who, now, renewed, lambda: (tree.zeros_like(params), rng_key))
        extra = {**extra, "hessian_diag": diagonal}
        updates, inner_state = self.inner_update(updates, state.inner_state, params, extra)
        return updates, WithHessianDiagState(count=counted(state.count), rng_key=rng_key, inner_state=inner_state)
