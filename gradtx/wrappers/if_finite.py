"""Steps whose gradient or update is not finite are skipped, so that no NaN enters the parameters."""

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
    """Steps in a row that were not finite, whether the last one was, how many there were, and the inner state."""

    notfinite_count: Array = counter()
    last_finite: Array = per_tree(start=True, dtype=bool)
    total_notfinite: Array = counter()
    inner_state: Any = child_state()


Step = Callable[[Any, Any, Any], tuple[Any, Any]]
"""A step of an inner transformation: of updates, its state and parameters, the new updates and the new state."""


def if_finite(
    who: str,
    inner: GradientTransformation,
    updates: Updates,
    inner_state: Any,
    params: Params,
    step: Step,
    accepted: Any = False,
) -> tuple[Any, Any, Array]:
    """What `step` makes, if the updates before and after it are finite, or `accepted`; else zeros and the old state.

    With it, whether they were finite. Updates of bounded rules are finite for sure; others are looked at.
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


def _is_bounded(inner: GradientTransformation, updates: Any) -> bool:
    """Whether finite gradients, parameters and numbers make finite updates for sure, in the dtypes of these updates."""
    dtypes = {jnp.result_type(u) for u in jax.tree.leaves(updates)}
    if not all(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes):
        return False  # which `inner` refuses
    ends = [float(jnp.finfo(leaf.compute_dtype(dtype)).max) for dtype in dtypes]
    return all(inner.largest(most, most) < most / 2 for most in ends)


def _finite_numbers(inner: GradientTransformation, state: Any) -> Array:
    """Whether the factors of this step are as small as `largest` takes them to be."""
    values = hyperparameters(inner, state).items()
    factors = [x for name, x in values if name.rpartition(".")[2] in ("learning_rate", "step_size")]
    return functools.reduce(jnp.logical_and, [jnp.abs(x) <= LARGEST_RATE for x in factors], jnp.array(True))


class apply_if_finite(Wrapper, state=ApplyIfFiniteState):
    """Skips steps whose gradients or updates contain NaN or infinity: the update is zero, the inner state unchanged.

    Where `inner` is bounded, as Adam, AdamW, Lion and signSGD with the usual numbers are, finite gradients, learning
    rates and (for a weight decay) parameters make finite updates, so that only those are looked at. The updates of
    anything else are looked at, too, which takes another pass. A learning rate above 1e15 counts as infinite.

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
                    "loss; policy='skip' goes on."
                )

        if isinstance(failed, Tracer):
            jax.debug.callback(stop, failed)
        else:
            stop(failed)
