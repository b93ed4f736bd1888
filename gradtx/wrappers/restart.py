"""Restarts schedules in the middle of a run; moments and all other state are kept."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gradtx.core.composite import Composite
from gradtx.core.fits import UNKNOWN, Owner
from gradtx.core.hyper import Schedule
from gradtx.core.slots import child_state
from gradtx.core.state import declared
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import as_transformation
from gradtx.types import State
from gradtx.wrappers.inject_hyperparams import InjectHyperparamsState

__all__ = ["restart_schedules"]


def restart_schedules(tx: Any, state: State) -> Any:
    """Restarts the schedules of a transformation, and keeps its moments.

    Use it to continue training with a new warmup: after a phase of a curriculum, or when you continue a finished run.
    Every transformation of a chain counts its own steps. If a transformation follows a schedule, its step count is set
    to 0. A schedule that has a state (`gx.rules.StatefulSchedule`) is reset to its initial state. All other step counts
    are kept, so the bias correction of the moments stays right. In the state of another library's transformation, a
    state whose only field is a step count is set to 0, such as the state of `optax.scale_by_schedule`.

    Args:
      tx: The transformation, with the schedules to start. They may differ from the schedules of the steps so far.
      state: The state of `tx`, from a run or a checkpoint.

    Returns:
      The state with the step counts of the schedules reset; every other array is the same.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.adam(gx.linear_schedule(0.0, 1.0, 10))
    >>> state = tx.init(jnp.zeros(1))
    >>> for _ in range(5):
    ...     updates, state = tx.update(jnp.ones(1), state)
    >>> state = gx.restart_schedules(tx, state)
    >>> print(state[0].count, state[1].count, gx.hyperparameters(tx, state)["scale_by_learning_rate.learning_rate"])
    5 0 0.0

    Raises:
      TypeError, ValueError: `state` is not a state of `tx`.
      ValueError: No hyperparameter follows a schedule; or a schedule is in a transformation with moments, such as
        `scale_by_adam(b1=schedule)`. There one step count serves both the schedule and the bias correction of the
        moments, so the schedule cannot be restarted separately.
    """
    tx = as_transformation("restart_schedules", tx)
    tx._check_fits(state, Owner(type(tx).__name__, UNKNOWN, ""))
    state, restarted = _restarted(tx, state)
    if not restarted:
        raise ValueError(
            "restart_schedules: no hyperparameter of this transformation follows a schedule. Pass the transformation "
            "whose schedules should restart, as in restart_schedules(gx.adam(schedule), state)."
        )
    return state


def _restarted(tx: Any, state: State) -> tuple[Any, bool]:
    """Returns the state with restarted schedules, and whether there are any schedules."""
    if not isinstance(tx, Stateful):
        return _restarted_foreign(state)
    restarted = False
    if isinstance(tx, Composite):
        states = tx.child_states(state)
        pairs = {name: _restarted(inner, states[name]) for name, inner in tx.children().items()}
        state = tx.with_child_states(state, {name: new for name, (new, _) in pairs.items()})
        restarted = any(found for _, found in pairs.values())
    if isinstance(state, InjectHyperparamsState):
        return _restarted_injected(tx, state, restarted)
    scheduled = [name for name in tx._own() if _has_schedule(getattr(tx, name))]
    if not scheduled:
        return state, restarted
    slots = {name: slot for name, slot in declared(tx.State).items() if name != "count" and slot.present(tx)}
    memory = [name for name, slot in slots.items() if not isinstance(slot, child_state)]
    if memory:
        raise ValueError(
            f"restart_schedules: one step count of {type(tx).__name__} serves both its schedule "
            f"({', '.join(scheduled)}) and its state ({', '.join(memory)}), so the schedule cannot be restarted alone. "
            "Start with a new state, tx.init(params), or put the schedule into a transformation without such a state, "
            "such as gx.scale_by_learning_rate(schedule)."
        )
    return state._replace(count=jnp.zeros_like(state.count)), True


def _restarted_injected(tx: Any, state: State, restarted: bool) -> tuple[Any, bool]:
    """Does the work of `_restarted` for `inject_hyperparams`: resets the step count and the states of schedules."""
    first = tx.first_schedule_states()
    if any(map(_is_schedule, tx.values)):
        state, restarted = state._replace(count=jnp.zeros_like(state.count)), True
    return state._replace(hyperparams_states=_like(first, state.hyperparams_states)), restarted or bool(first)


def _restarted_foreign(state: State) -> tuple[Any, bool]:
    """Sets to 0 each state of another library that holds only a step count; also returns whether there is one."""

    def lone(node: Any) -> bool:
        return getattr(node, "_fields", None) == ("count",)

    counts = [node for node in jax.tree.leaves(state, is_leaf=lone) if lone(node)]
    new = jax.tree.map(lambda x: x._replace(count=jnp.zeros_like(x.count)) if lone(x) else x, state, is_leaf=lone)
    return new, bool(counts)


def _is_schedule(x: Any) -> bool:
    return isinstance(x, Schedule)


def _has_schedule(x: Any) -> bool:
    """Whether a hyperparameter is a schedule, or a pytree that contains a schedule."""
    return any(map(_is_schedule, jax.tree.leaves(x, is_leaf=_is_schedule)))


def _like(new: Any, old: Any) -> Any:
    """Returns the states `new` with the dtypes and the sharding of the states `old`."""
    return jax.tree.map(lambda first, now: jnp.zeros_like(now) + first.astype(now.dtype), new, old)
