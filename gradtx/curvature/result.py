"""How a solver ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import Array

__all__ = ["Result", "Status", "in_words"]


class Status(enum.IntEnum):
    """Why a solver stopped.

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
    Status.converged: "The gradient is as small as was asked for.",
    Status.maxiter: "The largest number of steps was taken. Allow more by maxiter, or ask for less by tol.",
    Status.linesearch_failed: "No step along the last direction lowers the function. The gradient may be wrong there, "
    "or the point as good as rounding lets it be.",
    Status.not_finite: "The function or its gradient is not finite at the first point, or on every step from the last.",
    Status.stalled: "Steps no longer change the point or its value, though the gradient is larger than was asked for.",
    Status.unbounded: "There is no minimum on the way that the steps took: further on the function is minus infinity. "
    "Check its sign, or keep the parameters in a set.",
}


def in_words(status: Any, messages: Mapping[Status, str]) -> Any:
    """The message of a status; a list of them for a batch."""
    codes = np.asarray(status)
    texts = [messages[Status(int(code))] for code in codes.ravel()]
    return texts if codes.ndim else texts[0]


class Result(NamedTuple):
    """The best point that a solver saw, and how it ended; under vmap every field has the batch's axis.

    `value` and `grad_norm` are those at `params`, the latter of what bounds leave of the gradient; `steps` counts
    iterations, `evaluations` those of the function (a gradient that comes with one is not counted again); `status` is a
    `Status` as an int32.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> result = gx.minimize(lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(3))
    >>> print(result.steps, result.message)
    2 The gradient is as small as was asked for.
    """

    params: Any
    value: Array
    grad_norm: Array
    steps: Array
    evaluations: Array
    status: Array

    @property
    def message(self) -> Any:
        """What `status` means, in words; a list of them for a batch."""
        return in_words(self.status, _MESSAGES)
