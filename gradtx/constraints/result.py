"""How a constrained solver ended."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx.core.metrics import reports
from gradtx.curvature.result import Status, in_words

__all__ = ["ConstrainedResult"]

_MESSAGES = {
    Status.converged: "The constraints hold, and the gradient of the Lagrangian is as small as was asked for.",
    Status.maxiter: "The multipliers were renewed as often as was allowed. Allow more by maxiter, or ask for less by "
    "tol.",
    Status.not_finite: "The loss, a constraint or a gradient is not finite at the first point, or wherever the inner "
    "solver goes from there.",
    Status.stalled: "The inner solver no longer lowers the gradient of the Lagrangian, though it is larger than was "
    "asked for. It may be as small as rounding lets it be, or inner may need more inner_maxiter.",
    Status.infeasible: "No penalty, however large, makes the constraints hold: near this point, at least, they "
    "contradict each other.",
}


@reports("violation", "complementary_slackness")
class ConstrainedResult(NamedTuple):
    """The best point that a constrained solver saw, and how it ended; under vmap every field has the batch's axis.

    `value` is the loss at `params`; `multipliers` a dict of `inequality` and `equality`; `violation` the largest
    violation of a constraint, `complementary_slackness` the largest |alpha_i g_i|, `grad_norm` the norm of the
    gradient of the Lagrangian, all at `params`. `steps` counts renewals of the multipliers, `evaluations` those of the
    functions inside; `status` is a `Status` as an int32. The best point is the one with the smallest violation, and
    of points that violate nothing by more than `tol` the one with the smallest value.

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
        """What `status` means, in words; a list of them for a batch."""
        return in_words(self.status, _MESSAGES)
