"""Lists the elements of two states in order: nested chains are flattened, and elements without memory left out.

A link is a transformation that is an element of a chain. A link has memory if its state holds more than a step count.
gradtx and optax build the same optimizer from chains of different structure. gradtx has fewer links that do nothing,
keeps a step count in each link, and nests less: `schedule_free` is a chain in gradtx and a wrapper in optax. But the
links with memory have the same order in both libraries, so they are compared one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from gradtx import checks
from gradtx.compat.optax.convert_cells import Cell, Clock, Notes, cells_of, fields_of, number
from gradtx.core.chain import chain, named_chain
from gradtx.core.composite import Composite, View
from gradtx.core.slots import child_state
from gradtx.core.state import declared
from gradtx.core.stateful import Stateful
from gradtx.curvature.with_hessian_diag import with_hessian_diag
from gradtx.wrappers.lookahead import reset_state_every

__all__ = ["OurLink", "Seen", "TheirLink", "children", "is_spliced", "our_links", "their_links"]

OWN = {"clip_factor", "skipped", "values", "bad_weights", "weights", "count"}
"""Fields of gradtx's states that optax does not have; a link that has only such fields counts as without memory."""

COUNTS = {"count", "t", "step_count", "count_m2"}
"""The names of the fields in which optax's states hold the number of steps taken."""

SPLICED = (
    ("inner_state", set()),
    ("base_optimizer_state", {"z", "x0"}),
    ("fast_state", {"steps_since_sync"}),
    ("hessian_fn_state", {"nu"}),
)
"""Inner states that are listed before the outer state: their field, and fields to tell the outer state by (any of)."""


class Seen(NamedTuple):
    """The parameters as a (possibly inner) transformation sees them."""

    ours: Any
    theirs: Any
    """The tree that optax's inner transformation sees: the whole tree with masked leaves, instead of a subset."""
    order: list[int]
    """The index in `theirs` of each leaf of `ours`."""

    def through(self, view: View, notes: Notes, link: str) -> Seen:
        """Returns what an inner transformation sees."""
        if type(view) is View:
            return self
        if view.selects:
            ranks = jax.tree.unflatten(jax.tree.structure(self.ours), self.order)
            return Seen(view.seen(self.ours), self.theirs, jax.tree.leaves(view.seen(ranks)))
        part = view.seen(self.ours)
        if jax.tree.structure(part) == jax.tree.structure(self.ours):
            return self._replace(ours=part)
        if self.order != sorted(self.order):
            raise notes.error(
                f"{link} rearranges a group of parameters, which gradtx and optax order by different rules. Such a "
                "state cannot be converted: start with a new state."
            )
        return Seen(part, part, list(range(len(jax.tree.leaves(part)))))


class OurLink(NamedTuple):
    """A link of gradtx with memory, and the information to match it."""

    name: str
    tx: Any
    state: Any
    seen: Seen
    clock: Clock


class TheirLink(NamedTuple):
    """A state of optax, without the inner state that is listed before it."""

    kind: str
    """The name of the state's class; empty for a state that was restored as a dict."""
    fields: dict[str, Any]
    state: Any
    is_fast: bool
    """Whether the state belongs to the fast optimizer of a `lookahead`."""

    @property
    def remembers(self) -> bool:
        """Whether the state has memory, that is, holds more than a step count."""
        return any(jax.tree.leaves(x) for name, x in self.fields.items() if not _is_count(name, x))


def _is_count(name: str, x: Any) -> bool:
    return name in COUNTS and isinstance(x, Cell) and jax.numpy.result_type(x.value).kind in "iu"


# --- gradtx


def own_fields(tx: Any, state: Any) -> dict[str, Any]:
    """Returns the fields of a link, without inner states."""
    slots = declared(tx.State) if isinstance(tx, Stateful) and tx.State is not None else {}
    return {name: getattr(state, name) for name, slot in slots.items() if not isinstance(slot, child_state)}


def children(tx: Composite, state: Any, seen: Seen, notes: Notes, name: str) -> dict[Any, tuple[Any, Any, Seen]]:
    """Returns by key each inner transformation, its state, and the parameters that it sees."""
    views, states = tx.views(seen.ours), tx.child_states(state)
    return {key: (inner, states[key], seen.through(views[key], notes, name)) for key, inner in tx.children().items()}


def _remembers(tx: Any, state: Any) -> bool:
    if isinstance(tx, Stateful):
        own = any(jax.tree.leaves(x) for name, x in own_fields(tx, state).items() if name not in OWN)
        return own or (isinstance(tx, Composite) and any(_inner_remember(tx, state)))
    return bool(jax.tree.leaves(state))


def _inner_remember(tx: Composite, state: Any) -> Iterator[bool]:
    states = tx.child_states(state)
    return (_remembers(inner, states[name]) for name, inner in tx.children().items())


def our_links(tx: Any, state: Any, seen: Seen, clock: Clock, notes: Notes, above: str = "") -> Iterator[OurLink]:
    """Yields the links with memory, and registers the step counts of the other links with the clock."""
    name = f"{above}{type(tx).__name__}"
    link = OurLink(name, tx, state, seen, clock)
    if isinstance(tx, Composite) and not _stands_alone(tx, state):
        inside = above if isinstance(tx, chain) or tx.State is None else f"{name}."
        yield from _spliced(link, notes, inside)
    elif is_spliced(tx):
        ((inner, inner_state, inner_seen),) = children(tx, state, seen, notes, name).values()
        inside = _clock_of_fast(link, notes) if _is_pair(tx) else clock
        rest = our_links(inner, inner_state, inner_seen, inside, notes, f"{name}.")
        yield from (*rest, link) if _is_pair(tx) else (link, *rest)
    elif not isinstance(tx, Stateful):
        yield from _foreign(link, notes)
    elif _remembers(tx, state):
        yield link
    else:
        keep(link, notes)


def is_spliced(tx: Any) -> bool:
    """Whether the state of `tx` and the state of its inner transformation are compared as two links of a chain."""
    return isinstance(tx, with_hessian_diag) or _is_pair(tx)


def _is_pair(tx: Any) -> bool:
    """Whether `tx` is optax's `lookahead`, which keeps the fast optimizer's state inside its own state."""
    return isinstance(tx, Composite) and "fast_state" in getattr(tx.State, "_fields", ())


def _clock_of_fast(link: OurLink, notes: Notes) -> Clock:
    """Returns the clock of the fast optimizer, which restarts after every period if its state is reset."""
    if not link.tx.reset_state:
        return link.clock
    return notes.clock(link.name, implied=lambda: number(link.state.steps_since_sync))


def _stands_alone(tx: Composite, state: Any) -> bool:
    """Whether a transformation with inner transformations is compared as a single link."""
    if isinstance(tx, chain):
        return False
    own = any(jax.tree.leaves(x) for name, x in own_fields(tx, state).items() if name not in OWN)
    return own or sum(_inner_remember(tx, state)) > 1


def _spliced(link: OurLink, notes: Notes, above: str) -> Iterator[OurLink]:
    tx, state, clock = link.tx, link.state, link.clock
    keep(link, notes)
    if isinstance(tx, reset_state_every):
        clock = _fast_clock(link, notes)
        state = _reset_if_due(link, notes)
    for inner, inner_state, seen in children(tx, state, link.seen, notes, link.name).values():
        yield from our_links(inner, inner_state, seen, clock, notes, above)


def keep(link: OurLink, notes: Notes) -> None:
    """Records the count of a link that only gradtx has, and leaves its other fields at their initial values."""
    for name, x in own_fields(link.tx, link.state).items():
        if name == "count" and isinstance(x, Cell):
            if notes.into_ours:
                link.clock.unset.append((f"{link.name}.count", x, 0))
            else:
                link.clock.read.append(number(x))
        else:
            for cell in jax.tree.leaves(x):
                cell.keep()


def _foreign(link: OurLink, notes: Notes) -> Iterator[OurLink]:
    """Yields the links of a transformation made of functions, whose state has the same structure in both libraries.

    A transformation of optax inside a gradtx chain is such a transformation.
    """
    for part in their_links(link.state, link.tx, notes):
        if part.remembers:
            yield link._replace(state=part)
        else:
            for cell in jax.tree.leaves(part.fields):
                if notes.into_ours:
                    link.clock.unset.append((f"{link.name}.count", cell, 0))
                else:
                    link.clock.read.append(number(cell))


def _fast_clock(link: OurLink, notes: Notes) -> Clock:
    """Returns the clock of an optimizer whose state is reset after every period."""

    def since() -> int:
        return link.clock.count(notes.who) % link.tx.period

    return notes.clock(link.name, implied=since)


def _reset_if_due(link: OurLink, notes: Notes) -> Any:
    """Returns the state; at the end of a period, with the new inner state that gradtx would make at the next step."""
    count = 0 if notes.into_ours else number(link.state.count)
    if count == 0 or count % link.tx.period:
        return link.state
    return link.state._replace(inner_state=cells_of(link.tx.inner.init(link.seen.ours)))


# --- optax


def their_links(state: Any, tx: Any, notes: Notes, is_fast: bool = False) -> Iterator[TheirLink]:
    """Yields all states of optax in order, even states with only a count; `tx` tells field names in restored dicts."""
    return _their_links(state, _chains_of_names(tx), _known_fields(tx), notes, is_fast)


def _their_links(state: Any, chains: Any, known: set[str], notes: Notes, is_fast: bool) -> Iterator[TheirLink]:
    if not jax.tree.leaves(state):
        return
    parts = _parts_of_chain(state, chains, known, notes)
    if parts is not None:
        for part in parts:
            yield from _their_links(part, chains, known, notes, is_fast)
        return
    fields = fields_of(state)
    for name, beside in SPLICED:
        if name in fields and (beside & set(fields) or (not beside and len(fields) == 1)):
            inside = is_fast or name == "fast_state"
            yield from _their_links(fields.pop(name), chains, known, notes, inside)
    if set(fields) == {"inner_states"}:
        groups = fields["inner_states"].values()
        found = [list(_their_links(group, chains, known, notes, is_fast)) for group in groups]
        if sum(any(link.remembers for link in links) for links in found) < 2:
            yield from (link for links in found for link in links)
            return
    if fields:
        yield TheirLink(type(state).__name__ if hasattr(state, "_fields") else "", fields, state, is_fast)


def _parts_of_chain(state: Any, chains: Any, known: set[str], notes: Notes) -> Sequence[Any] | None:
    """Returns the states in a chain's state, in order; None if `state` is the state of a single transformation."""
    if isinstance(state, list) or (isinstance(state, tuple) and not hasattr(state, "_fields")):
        return state
    if hasattr(state, "_fields"):
        return None
    if isinstance(state, dict):
        names = set(map(str, state))
        order = chains.get(frozenset(names))
        if order is None and names == set(map(str, range(len(names)))):
            order = sorted(names, key=int)  # the keys of a tuple that was restored as a dict
        if order is not None:
            by_name = {str(name): part for name, part in state.items()}
            return [by_name[name] for name in order]
        if names <= known:
            return None
        unknown = ", ".join(sorted(names - known))
        raise notes.error(
            f"the optax state has a dict with the keys {unknown}, which are neither the names of a named_chain nor "
            "fields of a state that this transformation has. Give the transformation that the state belongs to."
        )
    raise notes.error(
        f"the optax state has {checks.shown(getattr(state, 'value', state))} instead of the state of a transformation. "
        "Give the state that optax's init or update returned, or that a checkpoint restored."
    )


def _inside(tx: Any) -> Iterator[Any]:
    yield tx
    if isinstance(tx, Composite):
        for inner in tx.children().values():
            yield from _inside(inner)


def _chains_of_names(tx: Any) -> dict[frozenset[str], tuple[str, ...]]:
    """Maps the set of names of each named chain in `tx` to the names in order."""
    return {frozenset(one.names): one.names for one in _inside(tx) if isinstance(one, named_chain)}


_FIELDS = {
    "inner_state",
    "inner_states",
    "inner_opt_state",
    "base_optimizer_state",
    "fast_state",
    "steps_since_sync",
    "opt_state",
    "hyperparams_states",
    "hessian_fn_state",
    "key",
    "ns_coeffs",
    "is_init_step",
    "is_initial_step",
    *COUNTS,
}


def _known_fields(tx: Any) -> set[str]:
    """Returns the names of the fields that optax's states may have for this transformation."""
    own = (one.State._fields for one in _inside(tx) if isinstance(one, Stateful) and one.State is not None)
    return _FIELDS.union(*own)
