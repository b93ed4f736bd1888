"""Checks whether a state is one that `init` makes for these parameters, once, before a step does any work.

`update` of the outermost transformation checks its own state and all states inside. What belongs there follows from
the declared slots. Every error says whose state it is, which field, what was expected and what was found.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.core.hyper import Schedule
from gradtx.core.packed import is_packed
from gradtx.core.slots import average_weights, child_state, per_param, per_tree
from gradtx.core.state import declared
from gradtx.types import State

__all__ = ["UNKNOWN", "Owner", "check_class", "check_fields", "check_made_by"]

UNKNOWN: Any = object()
"""Replaces the tree to which a state belongs if its shapes are unknown."""

_FROM = "Pass the state that tx.init(params) or the last tx.update returned."
_FROM_THESE = "Pass the state that tx.init made for these parameters, or that the last tx.update returned."


class Owner(NamedTuple):
    """The transformation whose state is checked."""

    who: str
    """The transformation whose `update` was called."""
    like: Any
    """The tree to which the state belongs: the parameters, or the updates if there are no parameters."""
    name: str
    """What `like` is: 'params' or 'updates'."""
    above: tuple[str, ...] = ()
    """The names of the transformations around the one whose state it is."""
    link: str = ""
    """The name of that transformation; empty for the one whose `update` was called."""

    def of(self) -> str:
        """Describes the state, by the name of its transformation."""
        return "the state" + (f" of {'.'.join((*self.above, self.link))}" if self.link else "")

    def is_not(self, expected: str, state: State) -> TypeError:
        """Returns the error for a state of a different kind."""
        return TypeError(f"{self.who}.update: {self.of()} must be {expected}, got {checks.shown(state)}. {_FROM}")

    def differs(self, field: str, what: str) -> ValueError:
        """Returns the error for a field of the state that does not fit; without a name, for the whole state."""
        subject = f"the field {field} in {self.of()}" if field else self.of()
        return ValueError(f"{self.who}.update: {subject} {what}. {_FROM_THESE}")


def check_class(owner: Owner, state: State, kind: type[Any]) -> None:
    """Raises a TypeError unless the state has its class."""
    if isinstance(state, kind):
        return
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    if type(state).__name__ != kind.__name__:
        raise owner.is_not(f"{article} {kind.__name__}", state)
    raise TypeError(
        f"{owner.who}.update: {owner.of()} must be {article} {kind.__name__} of {kind.__module__}, got the one of "
        f"{type(state).__module__}, another class of the same name. Make the state by tx.init(params), and copy the "
        "fields of the other state that mean the same."
    )


def check_fields(owner: Owner, tx: Any, state: State) -> None:
    """Raises a ValueError unless every declared field holds what belongs there; inner states are checked elsewhere."""
    leaves, treedef = ([], None) if owner.like is UNKNOWN else jax.tree.flatten(owner.like)
    shapes = list(map(checks.shape, leaves))
    for field, slot in declared(type(state)).items():
        value = getattr(state, field)
        if isinstance(slot, child_state):
            continue
        if not slot.present(tx):
            if not (isinstance(value, tuple) and not value):
                raise owner.differs(field, f"must be () with these settings, got {checks.shown(value)}")
        elif isinstance(slot, average_weights):
            _check_weights(owner, field, value, tx.corrected)
        elif isinstance(slot, per_tree):
            expected = _first(tx, slot, owner.like)
            if expected is not None:
                _check_tree(owner, field, value, expected)
        elif treedef is not None:
            try:
                items = treedef.flatten_up_to(value)
            except ValueError:
                raise owner.differs(field, _other_tree(value, owner)) from None
            layouts: Any = shapes
            if not isinstance(slot, per_param) or slot.only_narrow:
                views = tx._matrix_views(owner.like)
                layouts = [_lengths(slot.layout_for(tx, *pair)) for pair in zip(leaves, views, strict=True)]
            _check_items(owner, field, items, leaves, layouts, _kinds(tx, slot, owner))


def _check_items(owner: Owner, field: str, items: Any, leaves: Any, layouts: Any, kinds: Any) -> None:
    """Raises a ValueError unless a field has for each leaf an array of the right shape and kind."""
    for i, (x, item, shape) in enumerate(zip(leaves, items, layouts, strict=True)):
        wrong = _wrong_item(item, shape, kinds or (checks.kind(checks.dtype(x)),))
        if wrong:
            path = checks.keystr(jax.tree_util.tree_leaves_with_path(owner.like)[i][0])
            of = "" if shape == checks.shape(x) else f" of shape {checks.shape(x)}"
            found, wanted = wrong
            raise owner.differs(field, f"has {found} at {path}, where {wanted} belongs to {owner.name}{of}")


def _other_tree(value: Any, owner: Owner) -> str:
    return f"does not fit {owner.name}: {checks.difference('it', value, owner.name, owner.like)}"


def _lengths(layout: Any) -> Any:
    return list(map(_lengths, layout)) if isinstance(layout, list) else layout and tuple(n for n, _ in layout)


def _kinds(tx: Any, slot: Any, owner: Owner) -> tuple[str, ...] | None:
    """Returns the kinds of numbers that a slot may hold; None for the kinds of the leaf."""
    dtype = slot.dtype_of(tx)
    kind = "real" if dtype is None else checks.kind(jnp.dtype(dtype))
    if kind not in ("real", "complex"):
        return (kind,)
    if owner.name != "params":  # a gradient may be real although its parameter is complex
        return ("real", "complex")
    return ("real",) if slot.real else None


def _wrong_item(item: Any, shape: Any, kinds: tuple[str, ...]) -> tuple[str, str] | None:
    """Returns what a state has for one leaf and what belongs there, if the two differ."""
    if shape is None or isinstance(shape, list):
        found = (
            list(map(checks.shape, item)) if isinstance(item, list) else None if item is None else checks.shape(item)
        )
        return None if found == shape else (_of_shape(found), _of_shape(shape))
    dtype = checks.dtype(item)
    if dtype is None:
        return checks.shown(item), f"an array of shape {shape}"
    if checks.shape(item) != shape:
        return _of_shape(checks.shape(item)), _of_shape(shape)
    return None if checks.kind(dtype) in kinds else (f"dtype {dtype}", f"a {' or '.join(kinds)} dtype")


def _of_shape(shape: Any) -> str:
    if isinstance(shape, list):
        return f"arrays of the shapes {', '.join(map(str, shape))}"
    return "nothing" if shape is None else f"shape {shape}"


# --- fields per tree


def _check_weights(owner: Owner, field: str, value: Any, names: tuple[str, ...]) -> None:
    """Raises a ValueError unless a field has numbers for some of these names: the decay rates that were schedules
    at `init`.
    """
    if not isinstance(value, dict) or not set(value) <= set(names):
        raise owner.differs(
            field, f"must be a dict with numbers for some of {checks.listed(names)}, got {checks.shown(value)}"
        )
    _check_tree(owner, field, value, dict.fromkeys(value, jax.ShapeDtypeStruct((), jnp.dtype("float32"))))


def _first(tx: Any, slot: per_tree, like: Any) -> Any:
    """Returns the shapes of a field before the first step; None if they cannot be known."""
    start = slot.start
    if isinstance(start, str) and start not in tx._dynamic:
        return None if like is UNKNOWN else _outlined(tx, slot.first, like)
    value = getattr(tx, start) if isinstance(start, str) else start
    shape = () if isinstance(value, Schedule) else np.shape(value)
    dtype = slot.dtype_of(tx)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(jnp.float32 if dtype is None else dtype))


def check_made_by(owner: Owner, tx: Any, state: State) -> None:
    """Raises a ValueError unless the state has the tree and the shapes that `tx.init` makes."""
    if owner.like is not UNKNOWN:
        expected = _outlined(tx, type(tx).init, owner.like)
        _check_tree(owner, "", *(_opened(_without_weights(x)) for x in (state, expected)))


def _opened(state: State) -> Any:
    """Returns the state with the parts of packed slots by the names of their formats, whatever dtypes they are
    loaded in.
    """
    return jax.tree.map(lambda x: {str(x.format): x.children()} if is_packed(x) else x, state, is_leaf=is_packed)


def _without_weights(state: State) -> Any:
    """Returns the state with empty `average_weights`, which may have any of its names."""

    def fields(x: Any) -> list[str]:
        slots = getattr(type(x), "_field_defaults", {})
        return [field for field, slot in slots.items() if isinstance(slot, average_weights)]

    def without(x: Any) -> Any:
        return x._replace(**{field: {} for field in fields(x)}) if fields(x) else x

    return jax.tree.map(without, state, is_leaf=lambda x: bool(fields(x)))


def _outlined(tx: Any, make: Any, like: Any) -> Any:
    """Returns the shapes of `make(tx, like)`, cached because they are needed at every step."""
    parts, treedef = jax.tree.flatten(tx)
    leaves, like_treedef = jax.tree.flatten(like)
    return _remembered(make, treedef, tuple(map(_abstract, parts)), like_treedef, tuple(map(_abstract, leaves)))


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(checks.shape(x), jnp.result_type(x))


@lru_cache(maxsize=512)
def _remembered(make: Any, treedef: Any, parts: Any, like_treedef: Any, leaves: Any) -> Any:
    return jax.eval_shape(
        lambda arrays, like: make(treedef.unflatten(arrays), like), parts, like_treedef.unflatten(leaves)
    )


def _check_tree(owner: Owner, field: str, value: Any, expected: Any) -> None:
    """Raises a ValueError unless `value` has the expected tree, shapes and kinds of numbers."""
    if jax.tree.structure(value) != jax.tree.structure(expected):
        what = checks.difference("it", value, "the one of tx.init", expected)
        raise owner.differs(field, f"does not fit: {what}")
    for (path, x), like in zip(jax.tree_util.tree_leaves_with_path(value), jax.tree.leaves(expected), strict=True):
        at = f" at {checks.keystr(path)}" if path else ""
        found = checks.dtype(x)
        if found is None:
            raise owner.differs(field, f"has {checks.shown(x)}{at}, where an array of shape {like.shape} belongs")
        if checks.kind(found) == "key":  # a typed key may replace the two integers of an old key
            continue
        if checks.shape(x) != like.shape:
            raise owner.differs(field, f"has shape {checks.shape(x)}{at}, where shape {like.shape} belongs")
        if checks.kind(found) != checks.kind(like.dtype):
            raise owner.differs(field, f"has dtype {found}{at}, where {like.dtype} belongs")
