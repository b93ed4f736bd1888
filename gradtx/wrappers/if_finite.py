"""Skips steps whose gradient or update contains NaN or infinity, so that they never reach the parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx import leaf, tree
from gradtx.core.chain import needs
from gradtx.core.composite import Wrapper
from gradtx.core.hyper import LARGEST_RATE
from gradtx.core.metrics import reports
from gradtx.core.skipping import selected, unless_skipped, zeros_unless
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, hyperparameters
from gradtx.core.value import choice, integer
from gradtx.types import Params, State, Updates

__all__ = ["ApplyIfFiniteState", "apply_if_finite"]


@reports(finite="last_finite", skipped="total_notfinite", notfinite_streak="notfinite_count")
class ApplyIfFiniteState(NamedTuple):
    """The counts of steps that were not finite, whether the last step was finite, and the inner state.

    `notfinite_count` counts the steps in a row, up to the latest step, that were not finite; `total_notfinite` counts
    all steps that were not finite.
    """

    notfinite_count: Array = counter()
    last_finite: Array = per_tree(start=True, dtype=bool)
    total_notfinite: Array = counter()
    inner_state: Any = child_state()


Step = Callable[[Any, Any, Any], tuple[Any, Any]]
"""A step of an inner transformation: maps updates, state and parameters to the new updates and the new state."""


def if_finite(
    who: str,
    inner: GradientTransformation,
    updates: Updates,
    inner_state: Any,
    params: Params,
    step: Step,
    accepted: Any = False,
) -> tuple[Any, Any, Array]:
    """Takes a step if the incoming and the new updates are finite, or if `accepted` is true; else skips the step.

    Returns the new updates, the new state, and whether the updates were finite. For a skipped step the updates are zero
    and the state is unchanged. If `inner` has bounded updates, the new updates need no check.
    """
    sound = tree.finite(updates)
    if _is_bounded(inner, updates):
        sound &= _finite_numbers(inner, inner_state)
        if "params" in needs(inner):
            sound &= tree.finite(params)
    elif isinstance(sound | accepted, Tracer) or sound | accepted:
        clean = zeros_unless(sound | accepted, updates)
        made = step(clean, inner_state, params)
        sound &= tree.finite(made[0])
        return *selected(who, sound | accepted, made, updates, inner_state), sound
    taken = sound | accepted
    return *unless_skipped(who, taken, updates, inner_state, lambda u: step(u, inner_state, params)), sound


def _is_bounded(inner: GradientTransformation, updates: Updates) -> bool:
    """Whether finite gradients, parameters and hyperparameters always give finite updates in these dtypes."""
    dtypes = {jnp.result_type(u) for u in jax.tree.leaves(updates)}
    if not all(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes):
        return False  # `inner` raises an error for such updates
    ends = [float(jnp.finfo(leaf.compute_dtype(dtype)).max) for dtype in dtypes]
    return all(inner.largest(most, most) < most / 2 for most in ends)


def _finite_numbers(inner: GradientTransformation, state: State) -> Array:
    """Whether the learning rates of this step are below `LARGEST_RATE`, which the bound `inner.largest` assumes."""
    values = hyperparameters(inner, state).items()
    factors = [x for name, x in values if name.rpartition(".")[2] in ("learning_rate", "step_size")]
    return functools.reduce(jnp.logical_and, [jnp.abs(x) <= LARGEST_RATE for x in factors], jnp.array(True))


class apply_if_finite(Wrapper, state=ApplyIfFiniteState):
    """Skips steps whose gradients or updates contain NaN or infinity.

    On such a step the update is zero and the inner state is unchanged. Use it to survive a single bad batch. Put it
    outermost: `apply_if_finite(chain(clip_by_global_norm(1.0), adamw(1e-3)))`. `gx.metrics(state)` reports whether the
    last step was finite (`finite`), the number of steps that were not finite (`skipped`), and the number of such steps
    in a row up to now (`notfinite_streak`).

    If the updates of `inner` are bounded (true of Adam, AdamW, Lion and signSGD with the usual hyperparameters), only
    the gradients, the learning rates and (for weight decay) the parameters are checked. For other transformations the
    new updates are checked as well, which takes another pass over the updates. A learning rate above 1e15 counts as
    infinite.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      max_consecutive_errors: Number of bad steps in a row that are always skipped (default 5). `policy` says what
        happens to further bad steps. Not negative.
      policy: What to do after `max_consecutive_errors` bad steps in a row. 'skip' (default) keeps skipping, so that
        neither NaN nor infinity ever gets through. 'raise' raises a FloatingPointError; a jitted step raises a
        `jax.errors.JaxRuntimeError` with the same text instead, when you wait for its results. 'accept' takes the step
        with its NaN or infinity, so that the run shows what went wrong, and resets the count.

    Returns:
      A transformation. State: two counts and a boolean (9 bytes), in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.apply_if_finite(gx.sgd(0.1))
      >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
      >>> print(updates, state.total_notfinite)
      [0. 0.] 1
    """

    max_consecutive_errors: int = integer(default=5)
    policy: str = choice(default="skip", options=("skip", "raise", "accept"))

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        streak = counted(state.notfinite_count)
        accepted = (streak > self.max_consecutive_errors) & (self.policy == "accept")
        new, inner_state, finite = if_finite(
            "apply_if_finite",
            self.inner,
            updates,
            state.inner_state,
            params,
            lambda u, inner_state, p: self.inner_update(u, inner_state, p, extra),
            accepted,
        )
        if self.policy == "raise":
            self._raise(~finite & (streak > self.max_consecutive_errors))
        return new, ApplyIfFiniteState(
            notfinite_count=jnp.where(finite | accepted, 0, streak),
            last_finite=finite,
            total_notfinite=jnp.where(finite, state.total_notfinite, counted(state.total_notfinite)),
            inner_state=inner_state,
        )

    def _raise(self, failed: Any) -> None:
        def stop(failed: Any) -> None:
            if failed:
                raise FloatingPointError(
                    f"apply_if_finite: gradients or updates were not finite on {self.max_consecutive_errors + 1} steps "
                    "in a row. Lower the learning rate, clip the gradients, or look for a division by zero in the "
                    "loss; policy='skip' keeps skipping instead."
                )

        if isinstance(failed, Tracer):
            jax.debug.callback(stop, failed)
        else:
            stop(failed)
