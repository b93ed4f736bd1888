"""Steps whose gradient or update is not finite are skipped, so that no NaN enters the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx import tree
from gradtx.core.composite import Wrapper
from gradtx.core.metrics import reports
from gradtx.core.skipping import unless_skipped
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, hyperparameters
from gradtx.core.value import choice, integer

__all__ = ["ApplyIfFiniteState", "apply_if_finite"]


@reports(finite="last_finite", skipped="total_notfinite", notfinite_streak="notfinite_count")
class ApplyIfFiniteState(NamedTuple):
    """Steps in a row that were not finite, whether the last one was, how many there were, and the inner state."""

    notfinite_count: Array = counter()
    last_finite: Array = per_tree(start=True, dtype=bool)
    total_notfinite: Array = counter()
    inner_state: Any = child_state()


def if_finite(
    who: str,
    inner: GradientTransformation,
    updates: Any,
    inner_state: Any,
    step: Callable[[], tuple[Any, Any]],
    accepted: Any = False,
) -> tuple[Any, Any, Array]:
    """`step()` if the updates that it takes and returns are finite, or `accepted`; else zeros and the state as it was.

    With it, whether they were finite. What it returns is finite for sure if `inner` says so and the numbers of the step
    are finite; otherwise it is looked at, which takes another pass.
    """
    sound = tree.finite(updates)
    if inner.stays_finite():
        sound &= tree.finite([x for x in hyperparameters(inner, inner_state).values() if isinstance(x, Array)])
        return *unless_skipped(who, sound | accepted, updates, inner_state, step), sound
    if not isinstance(sound | accepted, Tracer) and not sound | accepted:
        return *unless_skipped(who, sound, updates, inner_state, step), sound
    made = step()
    sound &= tree.finite(made[0])
    return *unless_skipped(who, sound | accepted, updates, inner_state, lambda: made), sound


class apply_if_finite(Wrapper, state=ApplyIfFiniteState):
    """Skips steps whose gradients or updates contain NaN or infinity: the update is zero, the inner state unchanged.

    The gradients and the hyperparameters of the step are looked at, in the loops that compute the step anyway. Of them
    gradtx's own rules make finite updates. If `inner` contains anything else (a rule of your own, another library's
    transformation, or a link that reads extra arguments), its updates are looked at, too, which takes another pass.

    `policy` says what happens when more than `max_consecutive_errors` (default 5) steps in a row are not finite:

    - 'skip' (the default): they are skipped too. Nothing that is not finite ever gets through.
    - 'raise': FloatingPointError. In a jitted step it is raised when its results are waited for, as a
      `jax.errors.JaxRuntimeError` with the same text.
    - 'accept': the step is taken as it is, so that the run shows what went wrong; then the count begins again.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.apply_if_finite(gx.sgd(0.1))
    >>> updates, state = tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.zeros(2)))
    >>> print(updates, state.total_notfinite)
    [0. 0.] 1
    """

    max_consecutive_errors: int = integer(default=5)
    policy: str = choice(default="skip", options=("skip", "raise", "accept"))

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        streak = counted(state.notfinite_count)
        accepted = (streak > self.max_consecutive_errors) & (self.policy == "accept")
        new, inner_state, finite = if_finite(
            "apply_if_finite",
            self.inner,
            updates,
            state.inner_state,
            lambda: self.inner_update(updates, state.inner_state, params, extra),
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
                    "loss; policy='skip' goes on."
                )

        if isinstance(failed, Tracer):
            jax.debug.callback(stop, failed)
        else:
            stop(failed)
