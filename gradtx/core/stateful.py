"""Transformations whose state is declared: `init` and the checks of `update` follow from the slots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.core.fits import Owner, check_class, check_fields
from gradtx.core.hyper import resolve
from gradtx.core.packed import is_packed, kept, unpacked
from gradtx.core.slots import PerLeaf, child_state, per_tree
from gradtx.core.state import child_slots, declared
from gradtx.core.transformation import GradientTransformation
from gradtx.types import Params, State, Updates

__all__ = ["Stateful"]


class Stateful(GradientTransformation):
    """Base class of transformations with a declared state; subclasses define `step`.

    Class arguments:
      state: The NamedTuple class of the state, in which every field is declared by a slot.
      needs: Which of `params` and the extra arguments `update` requires.
      takes: Further extra arguments that it uses if they are given.
      real: True for a method that has no meaning for complex parameters, and raises for them.
    """

    State: ClassVar[Any] = None
    needs: ClassVar[tuple[str, ...]] = ()
    real: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        state: type[Any] | None = None,
        needs: tuple[str, ...] = (),
        takes: tuple[str, ...] = (),
        real: bool = False,
        **options: Any,
    ) -> None:
        if options:
            raise TypeError(
                f"{cls.__name__}: there is no class argument {next(iter(options))!r}; there are state, needs, takes, "
                "real, and for rules by_leaf, every and loops."
            )
        super().__init_subclass__()
        cls.real = cls.real or real
        for name, value in (("needs", needs), ("takes", takes)):
            if not isinstance(value, tuple):
                raise TypeError(f"{cls.__name__}: {name} must be a tuple of names, as in {name}=({value!r},).")
        if state is not None:
            _check_declaration(cls, state)
            cls.State = state
        if needs or takes:
            cls.needs = needs
            cls.extra_args = frozenset(needs + takes) - {"params"}

    # --- what a transformation defines

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        """Returns the transformed updates and the next state; its arguments are already checked."""
        raise TypeError(f"{type(self).__name__} must define step(self, updates, state, params, extra).")

    # --- what follows from the declaration

    def init(self, params: Params) -> Any:
        who, leaves = type(self).__name__, jax.tree.leaves(params)
        checks.floating(who, "params", params, leaves)
        if self.real:
            checks.real(who, "params", params, leaves)
        return self._begin(params)

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        self._check_call(updates, params, extra)
        self._check_trees(updates, params)
        self._check_state(updates, state, params)
        before = self._packed_fields(state)
        result = self.step(updates, state._replace(**unpacked(before)) if before else state, params, extra)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{type(self).__name__}.step returned {checks.shown(result)}: return the updates and the next state."
            )
        if self.State is not None and not isinstance(result[1], self.State):
            raise TypeError(
                f"{type(self).__name__}.step returned {checks.shown(result[1])} as the next state: return a "
                f"{self.State.__name__}."
            )
        if before:
            updates, state = result
            after = {name: getattr(state, name) for name in before}
            result = updates, state._replace(**kept(after, before))
        return result

    def _packed_fields(self, state: State) -> dict[str, Any]:
        """Returns the fields per parameter that hold an array in a storage format."""
        slots = {} if self.State is None else declared(self.State)
        fields = {name: getattr(state, name) for name, slot in slots.items() if isinstance(slot, PerLeaf)}
        return {name: x for name, x in fields.items() if any(map(is_packed, jax.tree.leaves(x, is_leaf=is_packed)))}

    def at(self, count: Any) -> Self:
        """Returns a copy whose hyperparameters are the numbers of step `count`: schedules are called."""
        names = self._own()
        return self._filled(names, [resolve(self, name, count) for name in names])

    def _own(self) -> Sequence[str]:
        """Returns the names of the fields that are hyperparameters of this transformation itself."""
        return self._dynamic

    def _matrix_views(self, tree: Any) -> Sequence[Any]:
        """Returns for each leaf how it is seen as matrices, or None if it is not."""
        return [None] * len(jax.tree.leaves(tree))

    def _begin(self, params: Params) -> Any:
        """Returns the state before the first step."""
        # Inner states first, so that an inner transformation raises its own errors for unsuitable parameters.
        state = {name: self._inner_begin(slot, params) for name, slot in child_slots(self.State).items()}
        leaves, treedef = jax.tree.flatten(params)
        arrays, views = list(map(jnp.asarray, leaves)), self._matrix_views(params)
        for name, slot in declared(self.State).items():
            if not slot.present(self):
                state[name] = ()
            elif isinstance(slot, per_tree):
                state[name] = slot.first(self, treedef.unflatten(arrays))
            elif isinstance(slot, PerLeaf):
                self._check_complex(name, slot, params)
                state[name] = treedef.unflatten([slot.first(self, *pair) for pair in zip(arrays, views, strict=True)])
        return self.State(**state)

    def _check_complex(self, name: str, slot: PerLeaf, params: Params) -> None:
        """Raises if a slot for a complex parameter has a real dtype."""
        dtype = slot.dtype_of(self)
        if slot.real or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return
        for path, p in jax.tree_util.tree_leaves_with_path(params):
            if jnp.iscomplexobj(p):
                raise TypeError(
                    f"{type(self).__name__}: at {checks.keystr(path)} params is complex, and state.{name} is kept in "
                    f"{jnp.dtype(dtype).name}, which cannot hold complex numbers. Leave the dtype None, or use "
                    "gx.split_real_and_imaginary."
                )

    def _inner_begin(self, slot: child_state, params: Params) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no inner transformation for {slot}.")

    def _check_call(self, updates: Updates, params: Params, extra: Mapping[str, Any]) -> None:
        """Raises unless the extra arguments are known, and nothing needed is missing."""
        self._check_extra(extra)
        if self.needs and jax.tree.leaves(updates):
            given = {**extra, "params": params}
            checks.needed(type(self).__name__, **{name: given.get(name) for name in self.needs})

    def _check_trees(self, updates: Updates, params: Params) -> None:
        """Raises unless updates and parameters belong together."""
        who, leaves = type(self).__name__, jax.tree.leaves(updates)
        checks.floating(who, "updates", updates, leaves)
        if self.real:
            checks.real(who, "updates", updates, leaves)
        if params is not None:
            checks.same_tree(who, "updates", updates, "params", params)

    def _check_fits(self, state: State, owner: Owner) -> None:
        if self.State is not None:
            check_class(owner, state, self.State)
            check_fields(owner, self, state)


def _check_declaration(cls: Any, state: Any) -> None:
    """Raises if a slot is not declared, or names something that the transformation does not have."""
    has = {*dir(cls), *(f.name for f in dataclasses.fields(cls))}
    for field, slot in declared(state).items():
        for argument, name in slot.names().items():
            if name not in has:
                fields = ", ".join(f.name for f in dataclasses.fields(cls)) or "no fields"
                raise TypeError(
                    f"{state.__name__}.{field}: {argument} names {name!r}, but {cls.__name__} has no hyperparameter, "
                    f"field or method of that name; it has {fields}."
                )
