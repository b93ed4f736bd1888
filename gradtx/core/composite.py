"""Base classes of transformations that contain others: chains, groups, wrappers.

What they have in common is here: names of hyperparameters and replacement, which extra arguments are accepted, how
an inner transformation sees them, constraint sets, and the states inside a state. A subclass says which
transformations it contains (`children`), and how each of them sees the tree (`views`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import numpy as np

from gradtx import checks
from gradtx.core.fits import UNKNOWN, Owner
from gradtx.core.slots import PerLeaf, child_state
from gradtx.core.state import child_slots, declared
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import STANDARD_EXTRA_ARGS, GradientTransformation, as_transformation
from gradtx.core.value import child
from gradtx.types import Params, State, Transformation, Updates

__all__ = ["Composite", "Inner", "View", "Wrapper", "inner"]


class View:
    """How an inner transformation sees a tree like the parameters.

    This class shows the whole tree. A subclass overrides `seen`, and `restored`, which must return all of `tree`.
    """

    selects: ClassVar[bool] = False
    """Whether it sees unchanged leaves of the tree, so that nothing is computed to show them."""

    def seen(self, tree: Any) -> Any:
        """Returns what the inner transformation sees of the tree."""
        return tree

    def outline(self, tree: Any) -> Any:
        """Returns what the inner transformation sees of a tree of which only the shapes matter."""
        return self.seen(tree) if self.selects or type(self) is View else jax.eval_shape(self.seen, tree)

    def restored(self, part: Any, tree: Any) -> Any:
        """Returns the tree with `part` in place of what is seen of it."""
        del tree
        return part

    def argument(self, name: str, x: Any, like: Any) -> Any:
        """Converts an extra argument for the inner transformation; `like` is the whole tree.

        A tree like the parameters is shown as they are. A function of the parameters becomes a function of the part
        that is seen, with the rest taken from `like`; if it returns a gradient, it returns the part that is seen.
        Everything else is passed on unchanged.
        """
        if name == "value_fn":
            return lambda part, *args: x(self.restored(part, like), *args)
        if name == "grad_fn":
            return lambda part, *args: self.seen(x(self.restored(part, like), *args))
        if name in STANDARD_EXTRA_ARGS - {"grad"} or not _is_like(x, like):
            return x
        return self.seen(x)


_AS_IT_IS = View()


def _is_like(x: Any, like: Any) -> bool:
    """Whether `x` is a tree like the parameters; if they are a single leaf, it must have the same shape, too."""
    if jax.tree.structure(x) != jax.tree.structure(like):
        return False
    return not jax.tree_util.all_leaves([like]) or np.shape(x) == np.shape(like)


class Composite(Stateful):
    """Base class of transformations that contain other transformations; `Wrapper` is the one for a single inner one."""

    def children(self) -> dict[str, GradientTransformation]:
        """Returns the inner transformations by name; by default the fields that hold one."""
        found = {name: getattr(self, name) for name in self._dynamic}
        return {name: tx for name, tx in found.items() if isinstance(tx, GradientTransformation)}

    def views(self, tree: Any) -> Mapping[str, View]:
        """Returns how each inner transformation sees a tree like the parameters."""
        del tree
        return dict.fromkeys(self.children(), _AS_IT_IS)

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Returns what an inner transformation sees of trees like the parameters whose leaves may be anything.

        None means that the arrays it sees are not shaped like the parameters.
        """
        del name
        return trees if type(self).views is Composite.views else None

    def movers(self) -> dict[str, GradientTransformation]:
        """Returns the inner transformations whose updates move the parameters; their constraint sets apply."""
        return self.children()

    def with_parts_replaced(self, f: Callable[[str, GradientTransformation], GradientTransformation]) -> Self:
        """Returns a copy with `f(name, tx)` in place of every inner transformation; the state keeps its structure."""
        found = self._parts()
        new = {name: f(name, tx) for name, tx in found.items() if isinstance(tx, GradientTransformation)}
        return self._with_parts(found | new)

    # --- the states inside a state

    def child_states(self, state: State) -> dict[str, Any]:
        """Returns the states of the inner transformations by name."""
        if self.State is None:
            return dict.fromkeys(self.children(), state)
        found: dict[str, Any] = {}
        for name, slot in child_slots(self.State).items():
            part = getattr(state, name)
            found |= part if slot.of is None else {slot.of: part}
        return found

    def with_child_states(self, state: State, states: Mapping[str, Any]) -> Any:
        """Returns `state` with the states of the inner transformations replaced by the given ones."""
        if self.State is None:
            (only,) = states.values()
            return only
        parts = {
            name: {key: states[key] for key in getattr(state, name)} if slot.of is None else states[slot.of]
            for name, slot in child_slots(self.State).items()
        }
        return state._replace(**parts)

    def init(self, params: Params) -> Any:
        if self.State is None:
            ((name, tx),) = self.children().items()
            return tx.init(self.views(params)[name].seen(params))
        if self._has_leaf_slots():
            return super().init(params)
        return self._begin(params)

    def _inner_begin(self, slot: child_state, params: Params) -> Any:
        views = self.views(params)
        if slot.of not in (None, *self.children()):
            raise TypeError(
                f"{type(self).__name__}: child_state(of={slot.of!r}) names no inner transformation; there are: "
                f"{', '.join(self.children())}."
            )
        states = {
            name: tx.init(views[name].seen(params)) for name, tx in self.children().items() if slot.of in (None, name)
        }
        return states if slot.of is None else states[slot.of]

    def _check_trees(self, updates: Updates, params: Params) -> None:
        """Checks the trees only if this transformation has slots of its own; otherwise inner transformations check
        them.
        """
        if "params" in self.needs or self._has_leaf_slots():
            super()._check_trees(updates, params)

    def _check_fits(self, state: State, owner: Owner) -> None:
        super()._check_fits(state, owner)
        if self.State is not None:
            self._check_child_slots(state, owner)
        states = self.child_states(state)
        views = {} if owner.like is UNKNOWN else self.views(owner.like)
        for name, tx in self.children().items():
            like = views[name].outline(owner.like) if views else UNKNOWN
            tx._check_fits(states[name], self._owner_of(name, tx, owner)._replace(like=like))

    def _check_child_slots(self, state: State, owner: Owner) -> None:
        """Raises unless the state contains the state of every inner transformation."""
        for field, slot in child_slots(self.State).items():
            part = getattr(state, field)
            if slot.of is None and not (isinstance(part, dict) and set(part) == set(self.children())):
                found = f"the keys {', '.join(map(repr, part))}" if isinstance(part, dict) else checks.shown(part)
                names = ", ".join(map(repr, self.children()))
                raise owner.differs(field, f"must be a dict with the keys {names}, got {found}")

    def _owner_of(self, name: str, tx: GradientTransformation, owner: Owner) -> Owner:
        """Returns the owner of the state of an inner transformation."""
        return owner._replace(above=(*owner.above, *self.path_to(name)), link=type(tx).__name__)

    @property
    def reshapes(self) -> bool:
        return any(tx.reshapes for tx in self.children().values())

    def _has_leaf_slots(self) -> bool:
        slots = () if self.State is None else declared(self.State).values()
        return any(isinstance(slot, PerLeaf) for slot in slots)

    # --- what an inner transformation is given

    def accepts(self, name: str) -> bool:
        return super().accepts(name) or any(tx.accepts(name) for tx in self.children().values())

    def known_extra_args(self) -> frozenset[str]:
        return super().known_extra_args().union(*(tx.known_extra_args() for tx in self.children().values()))

    def given(self, name: str, view: View, extra: Mapping[str, Any], like: Any) -> dict[str, Any]:
        """Returns the extra arguments that an inner transformation accepts, as it sees them; `like` is the whole
        tree.
        """
        return {key: view.argument(key, x, like) for key, x in self.children()[name].accepted(extra).items()}

    # --- sets

    def nearest(self, params: Params) -> Any:
        views = self.views(params)
        for name, tx in self.movers().items():
            view = views[name]
            params = view.restored(tx.nearest(view.seen(params)), params)
        return params

    def reduced_gradient(self, params: Params, grad: Any) -> Any:
        views = self.views(params)
        for name, tx in self.movers().items():
            view = views[name]
            grad = view.restored(tx.reduced_gradient(view.seen(params), view.seen(grad)), grad)
        return grad

    # --- names, hyperparameters, replacement

    def path_to(self, name: str) -> tuple[str, ...]:
        """Returns what a description writes before the name of an inner transformation."""
        who = type(self).__name__
        return (who,) if name == "inner" else (who, str(name))

    def _own(self) -> list[str]:
        return [name for name in self._dynamic if not isinstance(getattr(self, name), (GradientTransformation, tuple))]

    def _members(self, state: State = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        """Yields the inner transformations by the names that users know, each with its state, or None if there is
        none.
        """
        states = {} if state is None else self.child_states(state)
        return ((name, tx, states.get(name)) for name, tx in self.children().items())

    def _hyperparameters(self, state: State) -> Iterator[tuple[str, Any]]:
        own = self._own()
        yield from ((name, value) for name, value in super()._hyperparameters(state) if name in own)
        for name, tx, inner_state in self._members(state):
            yield from ((f"{name}.{key}", value) for key, value in tx._hyperparameters(inner_state))


def _transformation(who: str, name: str, value: Any) -> GradientTransformation:
    del name
    return as_transformation(who, value)


if TYPE_CHECKING:

    class Inner:
        """A field that is given a transformation of any library, and holds one of this one."""

        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: Transformation) -> None: ...

else:
    Inner = Any


def inner(default: Any = dataclasses.MISSING) -> Any:
    """Declares a field that holds a transformation, this library's or another's.

    Args:
      default: The default of the field; none by default, so that the argument is required.
    """
    return child(default, check=_transformation)


class Wrapper(Composite):
    """Base class of transformations around another one, `inner`; subclasses define `step`.

    Class arguments are those of `Stateful`: `state`, `needs`, `takes`, `real`. Without `state` the state is that of
    the inner transformation. A state that you declare must have a field `inner_state: Any = child_state()`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
    """

    inner: Inner = child(check=_transformation)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.State is not None and not child_slots(cls.State):
            raise TypeError(
                f"{cls.__name__}: {cls.State.__name__} has no place for the state of `inner`: add a field "
                "inner_state: Any = child_state()."
            )

    def inner_update(self, updates: Updates, state: State, params: Params, extra: Mapping[str, Any]) -> tuple[Any, Any]:
        """Calls `inner.update` with the extra arguments that it accepts; `state` is the inner state."""
        return self.inner.update(updates, state, params, **self.inner.accepted(extra))
