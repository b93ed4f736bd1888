"""Composition: `chain` and `named_chain`.

A chain opens nested chains and hands neighbouring per-leaf rules to the engine at once, so that a
leaf is read and written once however many links it passes. Only a rule that measures the tree,
and a link that is no per-leaf rule (another library's, say), wait for the whole tree.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.engine import run_update
from gradtx.core.leafwise import Leafwise
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child

__all__ = ["chain", "named_chain"]


class chain(GradientTransformation):
    """Applies transformations one after the other; the state is the tuple of theirs.

    Any object with `init` and `update` can be a link, another library's transformation too.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.chain(gx.clip(1.0), gx.scale(-0.1))
    >>> updates, state = tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))
    >>> print(updates)
    [-0.05 -0.1 ]

    Raises:
      TypeError: an argument is no transformation.
    """

    links: tuple[Any, ...] = child()

    def __init__(self, *links: Any) -> None:
        who = type(self).__name__
        object.__setattr__(self, "links", tuple(as_transformation(who, link) for link in links))

    def init(self, params: Any) -> Any:
        return self._state_of([link.init(params) for link in self.links])

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        new_states: list[Any] = []
        runs = list(_runs(self._unroll(state)))
        given = updates if len(runs) > 1 and _sixteen_bit(updates) else None
        for run, states in runs:
            if given is not None:  # between the runs updates are float32 or wider, but for what is not ours
                updates = _as_given(updates, given) if run[0].foreign else _widened(updates)
            if isinstance(run[0], Leafwise):
                updates, new = run_update(run, updates, states, params, extra)
                new_states += new
            else:
                updates, new = run[0].update(updates, states[0], params, **run[0]._used(extra))
                new_states.append(new)
        return updates if given is None else _as_given(updates, given), self._reroll(iter(new_states))

    def _states(self, state: Any) -> Sequence[Any]:
        """The links' states in order."""
        if not isinstance(state, tuple) or len(state) != len(self.links):
            raise self._wrong_state(state, f"a tuple of {len(self.links)} states, one for each link")
        return state

    def _wrong_state(self, state: Any, expected: str) -> TypeError:
        return TypeError(
            f"{type(self).__name__}.update: the state must be {expected}, got {checks.shown(state)}. "
            "Pass the state that tx.init(params) or the last tx.update returned."
        )

    def _state_of(self, states: Sequence[Any]) -> Any:
        return tuple(states)

    def _unroll(self, state: Any) -> Iterator[tuple[GradientTransformation, Any]]:
        """The links, those of nested chains included, each with its state."""
        for link, link_state in zip(self.links, self._states(state), strict=True):
            if isinstance(link, chain):
                yield from link._unroll(link_state)
            else:
                yield link, link_state

    def _reroll(self, states: Iterator[Any]) -> Any:
        """The chain's state from those that `_unroll` gave, in the same order."""
        return self._state_of([x._reroll(states) if isinstance(x, chain) else next(states) for x in self.links])

    def _accepts(self, name: str) -> bool:
        return super()._accepts(name) or any(link._accepts(name) for link in self.links)

    def _nearest(self, params: Any) -> Any:
        for link in self.links:
            params = link._nearest(params)
        return params

    def _reduced(self, params: Any, grad: Any) -> Any:
        for link in self.links:
            grad = link._reduced(params, grad)
        return grad

    # --- names, hyperparameters, repr

    def _known_states(self, state: Any) -> Sequence[Any]:
        return [None] * len(self.links) if state is None else self._states(state)

    def _members(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        """The links by class name, those of nested chains included, each with its state, or None if there is none."""
        for link, link_state in zip(self.links, self._known_states(state), strict=True):
            if isinstance(link, chain):
                yield from link._members(link_state)
            else:
                yield type(link).__name__, link, link_state

    def _numbered(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        """The members, with `[0]`, `[1]`, ... behind the names that occur more than once."""
        members = list(self._members(state))
        names = [name for name, _, _ in members]
        for i, (name, link, link_state) in enumerate(members):
            yield (name if names.count(name) == 1 else f"{name}[{names[:i].count(name)}]"), link, link_state

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        for name, link, link_state in self._numbered(state):
            for inner, value in link._hyperparameters(link_state):
                yield f"{name}.{inner}", value

    def _parts(self) -> dict[str, Any]:
        return {name: link for name, link, _ in self._numbered()}

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return self._rebuilt(iter(parts.values()))

    def _rebuilt(self, members: Iterator[Any]) -> Self:
        return type(self)(*(x._rebuilt(members) if isinstance(x, chain) else next(members) for x in self.links))

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        return ((None, link) for link in self.links)


class named_chain(chain):
    """A chain of `(name, transformation)` pairs; the state is a dict from name to state.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.named_chain(("clip", gx.clip(1.0)), ("rate", gx.scale(-0.1)))
    >>> tx.init(jnp.zeros(2))["clip"]
    CountState(count=Array(0, dtype=int32))
    >>> gx.hyperparameters(tx)
    {'clip.max_delta': 1.0, 'rate.step_size': -0.1}

    Raises:
      TypeError: an argument is no pair of a name and a transformation.
      ValueError: two links have the same name.
    """

    names: tuple[str, ...] = ()

    def __init__(self, *links: tuple[str, Any]) -> None:
        for pair in links:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(f"named_chain: expected pairs (name, transformation), got {checks.shown(pair)}.")
        names = tuple(name for name, _ in links)
        if len(set(names)) != len(names):
            raise ValueError(f"named_chain: names must differ, got {', '.join(names)}. Rename one of the links.")
        super().__init__(*(link for _, link in links))
        object.__setattr__(self, "names", names)

    def _states(self, state: Any) -> Sequence[Any]:
        if not isinstance(state, dict) or set(state) != set(self.names):
            raise self._wrong_state(state, f"a dict with the keys {', '.join(self.names)}")
        return [state[name] for name in self.names]

    def _state_of(self, states: Sequence[Any]) -> Any:
        return dict(zip(self.names, states, strict=True))

    def _members(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        return zip(self.names, self.links, self._known_states(state), strict=True)

    def _rebuilt(self, members: Iterator[Any]) -> Self:
        return type(self)(*((name, next(members)) for name in self.names))

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        return ((None, pair) for pair in zip(self.names, self.links, strict=True))


def _runs(pairs: Iterator[tuple[GradientTransformation, Any]]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Groups of neighbouring per-leaf rules with their states; other links by themselves."""
    for leafwise, group in itertools.groupby(pairs, key=lambda pair: isinstance(pair[0], Leafwise)):
        for part in [list(group)] if leafwise else ([pair] for pair in group):
            yield [link for link, _ in part], [state for _, state in part]


def _sixteen_bit(updates: Any) -> bool:
    return any(isinstance(u, Array) and _wide(u) != u.dtype for u in jax.tree.leaves(updates))


def _wide(u: Array) -> Any:
    return leaf.accumulator_dtype(u.dtype) if jnp.issubdtype(u.dtype, jnp.inexact) else u.dtype


def _widened(updates: Any) -> Any:
    return jax.tree.map(lambda u: leaf.widen(u) if isinstance(u, Array) else u, updates)


def _as_given(updates: Any, given: Any) -> Any:
    """The updates in the dtypes that came in, where they were widened."""
    if jax.tree.structure(updates) != jax.tree.structure(given):
        return updates
    return jax.tree.map(lambda u, g: leaf.narrow(u, g.dtype) if u.dtype == _wide(g) else u, updates, given)
