"""Schedules that begin again in the middle of a run, while moments and everything else go on."""

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

    Use it to train on with a new warmup: after a phase of a curriculum, or when a finished run is continued. Every link
    of a chain counts its own steps. In links with a schedule the count is set to 0, and a schedule with a state of its
    own (`gx.rules.StatefulSchedule`) gets its first one. All other counts stay, so that moments are corrected for the
    age that they have. In the state of another library's transformation, counts that stand alone are set to 0, such as
    that of `optax.scale_by_schedule`.

    Args:
      tx: The transformation, with the schedules that are to begin. They may differ from those of the steps so far.
      state: Its state, of a run or from a checkpoint.

    Returns:
      The state with other counts; every other array is the same.

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
      ValueError: No hyperparameter follows a schedule; or one does in a link that has moments, too, such as
        `scale_by_adam(b1=schedule)`. One count serves both there, and only one of them can begin again.
    """
    tx = as_transformation("restart_schedules", tx)
    tx._check_fits(state, Owner(type(tx).__name__, UNKNOWN, ""))
    state, restarted = _restarted(tx, state)
    if not restarted:
        raise ValueError(
            "restart_schedules: no hyperparameter of this transformation follows a schedule. Give the transformation "
            "whose schedules are to begin, as in restart_schedules(gx.adam(schedule), state)."
        )
    return state


def _restarted(tx: Any, state: State) -> tuple[Any, bool]:
    """The state with restarted schedules, and whether there are any."""
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
            f"restart_schedules: {type(tx).__name__} has one count, for its schedule ({', '.join(scheduled)}) and for "
            f"what it remembers ({', '.join(memory)}). If both are to begin again, set it: gx.tree.set(state, "
            "filtering, count=0). Else put the schedule into a link of its own, such as "
            "gx.scale_by_learning_rate(schedule)."
        )
    return state._replace(count=jnp.zeros_like(state.count)), True


def _restarted_injected(tx: Any, state: State, restarted: bool) -> tuple[Any, bool]:
    """The same for hyperparameters in the state: some schedules go by the count, others have states of their own."""
    first = tx.first_schedule_states()
    if any(map(_is_schedule, tx.values)):
        state, restarted = state._replace(count=jnp.zeros_like(state.count)), True
    return state._replace(hyperparams_states=_like(first, state.hyperparams_states)), restarted or bool(first)


def _restarted_foreign(state: State) -> tuple[Any, bool]:
    """The state of another library's transformation, in which the counts begin again that stand alone."""

    def lone(node: Any) -> bool:
        return getattr(node, "_fields", None) == ("count",)

    counts = [node for node in jax.tree.leaves(state, is_leaf=lone) if lone(node)]
    new = jax.tree.map(lambda x: x._replace(count=jnp.zeros_like(x.count)) if lone(x) else x, state, is_leaf=lone)
    return new, bool(counts)


def _is_schedule(x: Any) -> bool:
    return isinstance(x, Schedule)


def _has_schedule(x: Any) -> bool:
    """Whether a hyperparameter is a schedule, or a function with one among its data."""
    return any(map(_is_schedule, jax.tree.leaves(x, is_leaf=_is_schedule)))


def _like(new: Any, old: Any) -> Any:
    """The first states of schedules, where those of now lie."""
    return jax.tree.map(lambda first, now: jnp.zeros_like(now) + first.astype(now.dtype), new, old)
