"""Reports how a solver ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import Array

__all__ = ["Result", "Status", "in_words"]


class Status(enum.IntEnum):
    """Why a solver stopped; `Result.status` holds one of these as an int32.

    - `converged`: the gradient is within the tolerance.
    - `maxiter`: the limit on the number of steps was reached first.
    - `linesearch_failed`: no step along the last direction lowers the function.
    - `not_finite`: the function or its gradient is NaN or infinite.
    - `stalled`: steps no longer change anything, but the gradient is not within the tolerance.
    - `infeasible`: no point that satisfies the constraints was found (`augmented_lagrangian` and its kin).
    - `unbounded`: the function falls to minus infinity.

    >>> import gradtx as gx
    >>> gx.Status(1).name
    'maxiter'
    """

    converged = 0
    maxiter = 1
    linesearch_failed = 2
    not_finite = 3
    stalled = 4
    infeasible = 5
    unbounded = 6


_MESSAGES = {
    Status.converged: "Converged: the gradient is within the tolerance.",
    Status.maxiter: "Stopped after maxiter steps without convergence. Allow more steps by maxiter, or a larger tol.",
    Status.linesearch_failed: "The line search found no step that lowers the function. The gradient may be wrong "
    "at this point, or rounding hides all further decrease.",
    Status.not_finite: "The function or its gradient is NaN or infinite at the first point, or at every step that was "
    "tried from the last point.",
    Status.stalled: "The steps no longer change the point or its value, but the gradient is not within the tolerance.",
    Status.unbounded: "The function has no minimum: it falls to minus infinity in the direction of the steps. "
    "Check its sign, or restrict the parameters to a set.",
}


def in_words(status: Any, messages: Mapping[Status, str]) -> Any:
    """Returns the message of a status, or a list of messages for a batch."""
    codes = np.asarray(status)
    texts = [messages[Status(int(code))] for code in codes.ravel()]
    return texts if codes.ndim else texts[0]


class Result(NamedTuple):
    """The best point that a solver saw, and how the solver ended.

    Under `vmap` every field has the axis of the batch.

    Fields:
      params: The best parameters, a tree like `x0`.
      value: The value of the function at `params`.
      grad_norm: The norm of the gradient at `params`; with bounds, of the part of the gradient that they leave.
      steps: Number of iterations.
      evaluations: Number of evaluations of the function; a gradient that is computed with a value is not counted
        again.
      status: Why the solver stopped, a `Status` as an int32. The property `message` says it in words.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> result = gx.minimize(lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(3))
    >>> print(result.steps, result.message)
    2 Converged: the gradient is within the tolerance.
    """

    params: Any
    value: Array
    grad_norm: Array
    steps: Array
    evaluations: Array
    status: Array

    @property
    def message(self) -> Any:
        """The meaning of `status` in words; a list of messages for a batch."""
        return in_words(self.status, _MESSAGES)
