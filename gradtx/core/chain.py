"""Composition of transformations: `chain` and `named_chain`.

A chain opens nested chains and passes neighbouring per-leaf rules to the engine together, so that each leaf is read
and written once for all of these links. Other links, such as wrappers or another library's transformations, are
called one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeGuard

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.composite import Composite
from gradtx.core.engine import run_update
from gradtx.core.fits import UNKNOWN, Owner
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child
from gradtx.types import Params, State, Transformation, Updates

__all__ = ["chain", "named_chain", "needs"]


class chain(Composite):
    """Applies transformations one after the other.

    The updates of each link are the input of the next one. Order matters: clip before the optimizer that should see
    clipped gradients, and put the learning rate last.

    Args:
      *links: Transformations, in the order in which they are applied. Any object with `init` and `update` will do,
        also another library's transformation.

    Returns:
      A transformation whose state is the tuple of the links' states. It takes every extra argument that one of its
      links takes.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.chain(gx.clip(1.0), gx.scale(-0.1))
    >>> updates, state = tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))
    >>> print(updates)
    [-0.05 -0.1 ]

    Raises:
      TypeError: an argument is not a transformation.
    """

    links: tuple[Any, ...] = child()

    def __init__(self, *links: Transformation) -> None:
        who = type(self).__name__
        if len(links) == 1 and isinstance(links[0], list):
            raise TypeError(f"{who}: got one list. Pass the transformations as arguments of their own: {who}(*links).")
        object.__setattr__(self, "links", tuple(as_transformation(who, link) for link in links))

    def children(self) -> dict[str, GradientTransformation]:
        return {str(i): link for i, link in enumerate(self.links)}

    def child_states(self, state: State) -> dict[str, Any]:
        if not self._is_state(state):
            raise Owner(type(self).__name__, UNKNOWN, "").is_not(self._expected_state(), state)
        return dict(zip(self.children(), state, strict=True))

    def with_child_states(self, state: State, states: Mapping[str, Any]) -> Any:
        del state  # nothing else is in it: the state of a chain is the states of its links
        return tuple(states.values())

    def largest(self, incoming: float, most: float) -> float:
        for link in self.links:
            incoming = link.largest(incoming, most)
        return incoming

    def init(self, params: Params) -> Any:
        return self.with_child_states(None, {name: link.init(params) for name, link in self.children().items()})

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        opened = list(_opened(self, state))
        links, states = [link for link, _ in opened], [link_state for _, link_state in opened]
        original, spans, new_states = updates, list(_spans(links)), []
        for span in spans:
            first = links[span.start]
            if len(spans) > 1:  # between spans updates stay in float32 or wider: they are rounded once, at the end
                updates = _between(updates, original, first)
            if params is None and any(link.reshapes for link in links[: span.start]):
                for link, link_state in zip(links[span], states[span], strict=True):
                    link._check_state(updates, link_state, None)  # its shapes were not known before
            if isinstance(first, Leafwise):
                updates, new = run_update(links[span], updates, states[span], params, extra)
                new_states += new
            else:
                updates, new = first.update(updates, states[span.start], params, **first.accepted(extra))
                new_states.append(new)
        if len(spans) > 1:
            updates = _narrowed(updates, original)
        return updates, _closed(self, iter(new_states), lambda tx, parts: tx.with_child_states(None, parts))

    def _check_fits(self, state: State, owner: Owner) -> None:
        if not self._is_state(state):
            raise owner.is_not(self._expected_state(), state)
        for (name, link), inner in zip(self.children().items(), self.child_states(state).values(), strict=True):
            link._check_fits(inner, self._owner_of(name, link, owner))
            if owner.name == "updates" and link.reshapes:
                owner = owner._replace(like=UNKNOWN)

    def _owner_of(self, name: str, tx: GradientTransformation, owner: Owner) -> Owner:
        found = super()._owner_of(name, tx, owner)
        alike = [key for key, link in self.children().items() if type(link) is type(tx)]
        return found if len(alike) == 1 else found._replace(link=f"{found.link}[{alike.index(name)}]")

    def _is_state(self, state: State) -> bool:
        return isinstance(state, tuple) and not hasattr(state, "_fields") and len(state) == len(self.links)

    def _expected_state(self) -> str:
        return f"a tuple of {len(self.links)} states, one for each link"

    # --- names, replacement, repr

    def _members(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        """Yields the links by class name, including those of nested chains; repeated names get `[0]`, `[1]` and so
        on.
        """
        members = list(_opened(self, state, named_chains=False))
        names = [type(link).__name__ for link, _ in members]
        for i, (name, (link, link_state)) in enumerate(zip(names, members, strict=True)):
            yield (name if names.count(name) == 1 else f"{name}[{names[:i].count(name)}]"), link, link_state

    def path_to(self, name: str) -> tuple[str, ...]:
        del name
        return ()

    def _parts(self) -> dict[str, Any]:
        return {name: link for name, link, _ in self._members()}

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return _closed(self, iter(parts.values()), lambda tx, links: tx._with_links(links), named_chains=False)

    def _with_links(self, links: dict[str, Any]) -> Self:
        return type(self)(*links.values())

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        return ((None, link) for link in self.links)


class named_chain(chain):
    """Applies transformations one after the other, with names of your own for the links.

    Take it instead of `chain` to read a link's state by name, such as `state["clip"]`.

    Args:
      *links: Pairs `(name, transformation)`, in the order in which they are applied.

    Returns:
      A transformation whose state is a dict from name to state.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.named_chain(("clip", gx.clip(1.0)), ("rate", gx.scale(-0.1)))
    >>> tx.init(jnp.zeros(2))["clip"]
    CountState(count=Array(0, dtype=int32))
    >>> gx.hyperparameters(tx)
    {'clip.max_delta': 1.0, 'rate.step_size': -0.1}

    Raises:
      TypeError: an argument is not a pair of a name and a transformation.
      ValueError: two links have the same name.
    """

    names: tuple[str, ...] = ()

    def __init__(self, *links: tuple[str, Transformation]) -> None:
        for pair in links:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(f"named_chain: expected pairs (name, transformation), got {checks.shown(pair)}.")
        names = tuple(name for name, _ in links)
        if len(set(names)) != len(names):
            raise ValueError(f"named_chain: names must differ, got {', '.join(names)}. Rename one of the links.")
        super().__init__(*(link for _, link in links))
        object.__setattr__(self, "names", names)

    def children(self) -> dict[str, GradientTransformation]:
        return dict(zip(self.names, self.links, strict=True))

    def child_states(self, state: State) -> dict[str, Any]:
        if not self._is_state(state):
            raise Owner(type(self).__name__, UNKNOWN, "").is_not(self._expected_state(), state)
        return {name: state[name] for name in self.names}

    def _is_state(self, state: State) -> bool:
        return isinstance(state, dict) and set(state) == set(self.names)

    def _expected_state(self) -> str:
        return f"a dict with the keys {', '.join(self.names)}"

    def with_child_states(self, state: State, states: Mapping[str, Any]) -> Any:
        del state
        return dict(states)

    def path_to(self, name: str) -> tuple[str, ...]:
        return (name,)

    def _members(self, state: State = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        return Composite._members(self, state)

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return self._with_links(parts)

    def _with_links(self, links: dict[str, Any]) -> Self:
        return type(self)(*links.items())

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        return ((None, pair) for pair in self.children().items())


def needs(tx: Any) -> frozenset[str]:
    """Returns the arguments that a rule, or a link of a chain, declares as required."""
    if isinstance(tx, chain):
        return frozenset().union(*map(needs, tx.links))
    return frozenset(getattr(tx, "needs", ()))


def _opened(tx: chain, state: State, *, named_chains: bool = True) -> Iterator[tuple[GradientTransformation, Any]]:
    """Yields each link with its state (None if no state is given); nested chains are replaced by their links."""
    states = {} if state is None else tx.child_states(state)
    for name, link in tx.children().items():
        if _opens(link, named_chains):
            yield from _opened(link, states.get(name), named_chains=named_chains)
        else:
            yield link, states.get(name)


def _closed(tx: chain, items: Iterator[Any], make: Callable[..., Any], *, named_chains: bool = True) -> Any:
    """Builds nested chains again from one item for each opened link, with `make(chain, parts)`: inverts `_opened`."""
    parts = {
        name: _closed(link, items, make, named_chains=named_chains) if _opens(link, named_chains) else next(items)
        for name, link in tx.children().items()
    }
    return make(tx, parts)


def _opens(link: GradientTransformation, named_chains: bool) -> TypeGuard[chain]:
    return isinstance(link, chain) and (named_chains or not isinstance(link, named_chain))


def _spans(links: Sequence[GradientTransformation]) -> Iterator[slice]:
    """Yields slices of the links: neighbouring per-leaf rules together, every other link separately."""
    start = 0
    for leafwise, group in itertools.groupby(links, key=lambda link: isinstance(link, Leafwise)):
        n = len(list(group))
        if leafwise:
            yield slice(start, start + n)
        else:
            yield from (slice(i, i + 1) for i in range(start, start + n))
        start += n


def _between(updates: Updates, original: Any, link: GradientTransformation) -> Any:
    """Returns the updates in float32 or wider; for another library's link, in the dtypes that came into the chain."""
    if link.foreign:
        return _narrowed(updates, original)
    return jax.tree.map(lambda u: leaf.widen(u) if isinstance(u, Array) else u, updates)


def _narrowed(updates: Updates, original: Any) -> Any:
    """Returns the updates in the dtypes that came into the chain, if they were widened."""
    if jax.tree.structure(updates) != jax.tree.structure(original):
        return updates
    return jax.tree.map(lambda u, g: leaf.narrow(u, g.dtype) if _is_widened(u, g) else u, updates, original)


def _is_widened(u: Any, g: Any) -> bool:
    if not (isinstance(u, Array) and isinstance(g, Array)) or u.dtype == g.dtype:
        return False
    return jnp.issubdtype(g.dtype, jnp.inexact) and u.dtype == leaf.accumulator_dtype(g.dtype)
