"""The result of a constrained solver."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx.core.metrics import reports
from gradtx.curvature.result import Status, in_words

__all__ = ["ConstrainedResult"]

_MESSAGES = {
    Status.converged: "The constraints hold, and the gradient of the Lagrangian is at most tol.",
    Status.maxiter: "The solver took maxiter rounds without reaching tol. Increase maxiter or tol.",
    Status.not_finite: "The loss, a constraint or a gradient is NaN or infinite at the first point, or at every point "
    "that the inner solver reaches from there. Start from another x0.",
    Status.stalled: "The inner solver no longer lowers the gradient of the Lagrangian, which is still larger than tol. "
    "Increase inner_maxiter, or increase tol if the gradient is already as small as rounding allows.",
    Status.infeasible: "Even a very large penalty does not make the constraints hold: near this point they contradict "
    "each other. Check the constraints, or start from another x0.",
}


@reports("violation", "complementary_slackness")
class ConstrainedResult(NamedTuple):
    """The best point that a constrained solver found, and how the solver ended.

    The best point has the smallest violation; among points that violate nothing by more than `tol` it has the smallest
    value. Under `vmap` every field has the axis of the batch. `result.message` says in words how the solver ended.

    Attributes:
      params: The parameters of the best point.
      value: The loss at `params`.
      multipliers: A dict with the multipliers of 'inequality' and 'equality' at `params`.
      violation: The largest violation of a constraint at `params`.
      complementary_slackness: The largest product |alpha_i g_i| of a multiplier and its inequality at `params`.
      grad_norm: The norm of the Lagrangian's gradient at `params`.
      steps: The number of rounds, each with new multipliers.
      evaluations: The number of evaluations of the functions inside the rounds.
      status: A `gx.Status` as an int32.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> loss, line = lambda x: jnp.sum(x**2), lambda x: jnp.sum(x) - 1
      >>> result = gx.augmented_lagrangian(loss, jnp.zeros(2), equality=line, tol=1e-4)
      >>> print(result.params.round(2), result.multipliers["equality"].round(2))
      [0.5 0.5] -1.0
    """

    params: Any
    value: Array
    multipliers: dict[str, Any]
    violation: Array
    complementary_slackness: Array
    grad_norm: Array
    steps: Array
    evaluations: Array
    status: Array

    @property
    def message(self) -> Any:
        """The meaning of `status` in words; a list for a batch."""
        return in_words(self.status, _MESSAGES)
