"""Converts states in the middle of a run, from optax to gradtx and back.

    state = from_optax(optax_state, tx, params)
    optax_state = to_optax(state, tx, params, optax_tx)

If both libraries compute the same, a run that switches the library continues exactly like a run that does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.compat.optax.convert_cells import Clock, Notes, cells_of, number, values_of
from gradtx.compat.optax.convert_fields import CLASSES, Match
from gradtx.compat.optax.convert_links import OurLink, Seen, TheirLink, children, is_spliced, our_links, their_links
from gradtx.compat.optax.convert_special import rate_before_average, scale_average
from gradtx.core.composite import Composite
from gradtx.core.hyper import of_step
from gradtx.core.partition import partition
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import as_transformation
from gradtx.transforms.momentum import ema
from gradtx.transforms.monitor import monitor
from gradtx.wrappers.accumulate import accumulate
from gradtx.wrappers.conditional import conditionally_mask, conditionally_transform
from gradtx.wrappers.if_finite import apply_if_finite
from gradtx.wrappers.sam import sam

__all__ = ["from_optax", "to_optax"]


def from_optax(optax_state: Any, tx: Any, params: Any, *, count: int | None = None) -> Any:
    """Makes the state of a gradtx transformation from the state of the same optax transformation.

    Use it to continue a run that was started with optax, or to start from a checkpoint of such a run. The elements of
    chains are matched in order, and the fields of states by name. optax is not imported. The function reads step
    counts, so call it outside of `jax.jit`.

    Args:
      optax_state: The state that optax's `init` or `update` returned, or the same state restored from a checkpoint:
        tuples may have become lists or dicts, states may have become dicts by field name, and arrays may be NumPy
        arrays.
      tx: The same transformation in gradtx, with the same chain and hyperparameters.
      params: The current parameters. For `lookahead`, pass optax's `LookaheadParams`, which contain the slow weights.
      count: The number of steps taken so far. Pass it only if the optax state has no step count, as for `sgd` with a
        constant learning rate.

    Returns:
      A state for `tx.update`, with the shapes, dtypes and sharding of `tx.init(params)`. It shares no array with
        `optax_state`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> from gradtx.compat.optax import from_optax
      >>> params = {"w": jnp.ones(2)}
      >>> restored = [{"count": 7, "mu": {"w": jnp.ones(2)}, "nu": {"w": jnp.ones(2)}}, None]
      >>> state = from_optax(restored, gx.adam(0.1), params)
      >>> print(state[0].count, state[0].mu["w"])
      7 [1. 1.]

    Raises:
      ValueError: The state does not match `tx`: it is the state of a different transformation, a field has no
        counterpart, or a shape or the kind of a dtype differs. The error names the transformation and the field. Or the
        number of steps is not known.
      TypeError: `tx` is not a transformation.
    """
    notes = Notes("from_optax", into_ours=True)
    tx, (fast, slow) = as_transformation("from_optax", tx), _fast_and_slow(params)
    ours = cells_of(tx.init(fast))
    _Walk(notes, slow).start(tx, ours, cells_of(optax_state), fast, _count("from_optax", count))
    return _filled(notes, ours)


def to_optax(state: Any, tx: Any, params: Any, optax_tx: Any, *, count: int | None = None) -> Any:
    """Makes the state of an optax transformation from the state of the same gradtx transformation.

    It is the inverse of `from_optax`. For `lookahead`, optax keeps the slow weights in the parameters: use
    `optax.LookaheadParams(params, slow)`, where `slow` is the field of gradtx's `LookaheadState`.

    Args:
      state: The state that `tx.init` or `tx.update` returned.
      tx: The gradtx transformation.
      params: The parameters at this step.
      optax_tx: The optax transformation, whose `init(params)` is called for the structure of the state; or a state that
        it returned for these parameters.
      count: The number of steps taken so far; needed only if the transformations in `state` have different step counts.

    Returns:
      A state for optax's `update`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> from gradtx.compat.optax import to_optax
      >>> params, tx = {"w": jnp.ones(2)}, gx.adam(0.1)
      >>> like = [{"count": 0, "mu": {"w": jnp.zeros(2)}, "nu": {"w": jnp.zeros(2)}}, None]
      >>> to_optax(tx.init(params), tx, params, like)[0]["mu"]
      {'w': Array([0., 0.], dtype=float32)}

    Raises:
      ValueError: The states do not match, as in `from_optax`.
      TypeError: `tx` is not a transformation.
    """
    notes = Notes("to_optax", into_ours=False)
    tx, (fast, slow) = as_transformation("to_optax", tx), _fast_and_slow(params)
    tx._check_state(fast, state, fast)
    theirs = cells_of(optax_tx.init(params) if hasattr(optax_tx, "init") else optax_tx)
    _Walk(notes, slow).start(tx, cells_of(state), theirs, fast, _count("to_optax", count))
    return _filled(notes, theirs)


def _count(who: str, count: Any) -> int | None:
    return None if count is None else checks.integer(who, "count", count, ge=0)


def _fast_and_slow(params: Any) -> tuple[Any, Any]:
    """Returns the parameters, and the slow weights if `params` is optax's `LookaheadParams`, else None."""
    if getattr(params, "_fields", None) == ("fast", "slow"):
        return params
    return params, None


def _filled(notes: Notes, state: Any) -> Any:
    notes.write()
    missing = [path for path, cell in jax.tree_util.tree_leaves_with_path(state) if not cell.is_set]
    if missing:
        raise notes.error(
            f"nothing is known of {checks.listed([checks.keystr(path) for path in missing])}. Give the state and the "
            "transformation of one run."
        )
    return values_of(state)


class _Walk:
    """Walks through both states at the same time, and matches their elements and fields."""

    def __init__(self, notes: Notes, slow: Any) -> None:
        self.notes, self.slow = notes, slow

    def start(self, tx: Any, ours: Any, theirs: Any, params: Any, told: int | None) -> None:
        clock = self.notes.clock("the transformation", told)
        seen = Seen(params, params, list(range(len(jax.tree.leaves(params)))))
        self.links(tx, ours, theirs, seen, clock, "")

    def links(self, tx: Any, ours: Any, theirs: Any, seen: Seen, clock: Clock, above: str) -> None:
        """Matches the elements of a transformation in order."""
        notes, before = self.notes, len(self.notes.clocks)
        mine = list(our_links(tx, ours, seen, clock, notes, above))
        found = list(their_links(theirs, tx, notes))
        others = [link for link in found if link.remembers]
        fast = next(iter(notes.clocks[before:]), clock)  # a new clock if lookahead resets the optimizer's state
        for link in found:
            if not link.remembers:
                self._only_counts(link, fast if link.is_fast else clock)
        if len(mine) != len(others) or not all(map(_alike, mine, others)):
            at = above.rstrip(".") or "the transformation"
            raise notes.error(
                f"the states of {at} do not match. In gradtx these transformations have a state: "
                f"{_listed(f'{link.name} ({_kind(link)})' for link in mine)}. The optax state has "
                f"{_listed(_their_kind(link) for link in others)}. Give the transformation that the state belongs to."
            )
        rate = rate_before_average(tx, theirs)
        for link, other in zip(mine, others, strict=True):
            self._link(link, other, rate if isinstance(link.tx, ema) else None)

    def _only_counts(self, link: TheirLink, clock: Clock) -> None:
        for cell in jax.tree.leaves(link.fields):
            if self.notes.into_ours:
                clock.read.append(number(cell))
            else:
                clock.unset.append((f"{link.kind}.count", cell, 0))

    def _link(self, link: OurLink, other: TheirLink, rate: Any) -> None:
        if not isinstance(link.tx, Stateful):
            self._foreign(link, other)
            return
        match = Match(link, other, self.slow, self.notes)
        if rate is not None:
            scale_average(match, rate)
        match.run()
        if isinstance(link.tx, Composite) and not is_spliced(link.tx):
            self._children(link, other)

    def _foreign(self, link: OurLink, other: TheirLink) -> None:
        """Matches the state of a user's own functions, which has the same structure in both libraries."""
        mine, its = (_flat(part.fields) for part in (link.state, other))
        if set(mine) != set(its):
            raise self.notes.error(
                f"{link.name}: the state of a transformation made of functions must be the same on both sides. In "
                f"gradtx it has {_listed(mine)}, and in optax {_listed(its)}."
            )
        for name, cell in mine.items():
            self.notes.pair(f"{link.name}{name}", cell, its[name])

    def _children(self, link: OurLink, other: TheirLink) -> None:
        inside = children(link.tx, link.state, link.seen, self.notes, link.name)
        states = _their_children(link, other, list(inside), self.notes)
        for key, (tx, state, seen) in inside.items():
            clock = _clock_of_child(link, other, key, self.notes)
            many = len(inside) > 1
            self.links(tx, state, states[key], seen, clock, f"{link.name}.{key}." if many else f"{link.name}.")


def _flat(tree: Any) -> dict[str, Any]:
    return {checks.keystr(path): cell for path, cell in jax.tree_util.tree_leaves_with_path(tree)}


_INNER = {
    "inner": ("inner_state", "inner_opt_state", "opt_state"),
    "transformation": ("inner_state",),
    "adv_optimizer": ("adv_state",),
    "base_optimizer": ("base_optimizer_state",),
}
"""Maps inner transformations of gradtx to the fields in which optax keeps their states."""


def _their_children(link: OurLink, other: TheirLink, names: list[Any], notes: Notes) -> dict[Any, Any]:
    fields = other.fields
    if isinstance(link.tx, partition):
        groups = {str(name): state for name, state in fields["inner_states"].items()}
        if set(groups) != set(map(str, names)):
            raise notes.error(
                f"{link.name} has the labels {_listed(map(str, names))}, and the optax state {_listed(groups)}. Give "
                "the groups the labels that they had in optax."
            )
        return {name: groups[str(name)] for name in names}
    if isinstance(link.tx, monitor):
        return dict(zip(link.tx.names, _in_order(fields["measure_states"]), strict=True))
    found: dict[Any, Any] = {}
    for name in names:
        field = next((field for field in _INNER.get(name, ()) if field in fields), None)
        if field is None:
            raise notes.error(f"{link.name} has an inner state for {name}, and {_their_kind(other)} of optax has none.")
        found[name] = fields[field]
    return found


def _in_order(states: Any) -> list[Any]:
    return [states[key] for key in sorted(states, key=int)] if isinstance(states, dict) else list(states)


def _clock_of_child(link: OurLink, other: TheirLink, key: Any, notes: Notes) -> Clock:
    """Returns the clock of an inner transformation: the outer clock, or a new one if it does not take every step."""
    tx, outer = link.tx, link.clock
    fields = other.fields if notes.into_ours else {name: getattr(link.state, name) for name in link.state._fields}

    def known() -> int | None:
        if isinstance(tx, accumulate):
            return number(fields["gradient_step"])
        if isinstance(tx, (conditionally_transform, conditionally_mask)):
            if tx.forward_extra_args:
                return None
            steps = jnp.arange(number(fields["step"]))
            return int(jnp.sum(jax.vmap(lambda i: jnp.asarray(of_step(tx.should_transform_fn, i)))(steps)))
        count = outer.count(notes.who)
        if isinstance(tx, apply_if_finite):
            return count - number(fields["total_notfinite"])
        if key == "inner":
            return count // tx.sync_period if tx.transparent else count
        if not tx.transparent:
            return 0 if tx.reset_state else count * (tx.sync_period - 1)
        since = number(fields["steps_since_sync"])
        return since if tx.reset_state else count // tx.sync_period * (tx.sync_period - 1) + since

    apart = (accumulate, conditionally_transform, conditionally_mask, apply_if_finite, sam)
    return notes.clock(link.name, implied=known) if isinstance(tx, apart) else outer


def _alike(link: OurLink, other: TheirLink) -> bool:
    """Whether both states may belong to the same method, judged by the names of their classes."""
    if not isinstance(link.tx, Stateful) or not other.kind:
        return True
    kind = _kind(link)
    return other.kind in CLASSES.get(kind, {kind})


def _kind(link: OurLink) -> str:
    return link.state.kind if isinstance(link.state, TheirLink) else type(link.state).__name__


def _their_kind(link: TheirLink) -> str:
    return link.kind or f"a state with the fields {', '.join(link.fields)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
