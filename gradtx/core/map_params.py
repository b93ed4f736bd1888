"""Maps a function over the arrays in a state that are shaped like the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from gradtx import checks
from gradtx.core.composite import Composite
from gradtx.core.fields import children, is_state
from gradtx.core.fits import UNKNOWN, Owner, check_class
from gradtx.core.packed import is_packed
from gradtx.core.prefix import ByPath
from gradtx.core.slots import PerLeaf, child_state, per_param
from gradtx.core.state import declared
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import GradientTransformation
from gradtx.frozen import Frozen
from gradtx.types import State

__all__ = ["map_params"]


def map_params(
    tx: Any,
    f: Callable[..., Any],
    state: State,
    /,
    *rest: Any,
    transform_non_params: Callable[[Any], Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
    """Applies a function to every array in a state that is shaped like a parameter.

    Use it, for example, to make shardings for a state from those of the parameters. The fields of a state are
    declared by slots (`gx.rules`), and `f` gets the fields with one array per parameter, of its shape. Factors, row
    means, stacks of arrays, and whatever is kept in another shape (as inside `flatten`) count as other arrays. For
    an array in a storage format (`gx.stored`), `f` gets the plain array, and a result of the same shape is stored
    in the format again.

    Args:
      tx: The transformation whose state it is, this library's or another's, or its `init`. For another library's
        transformation and for a function, `init` is called once with a placeholder for the parameters.
      f: A function of an array of the state and of the corresponding leaves of `rest`.
      state: The state.
      *rest: Trees with the structure of the parameters, whose leaves may be anything. For the groups of `partition`
        and `masked`, which see some of the parameters, the leaves are found by path.
      transform_non_params: A function of every other array. None (default) leaves them unchanged.
      is_leaf: Which nodes of the state's trees are leaves for `f`, as in `jax.tree.map`. None by default.

    Returns:
      A state like `state`, with the results of the functions.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1))
    >>> state = tx.init({"w": jnp.ones(2)})
    >>> specs = gx.tree.map_params(tx, lambda _, spec: spec, state, {"w": "rows"}, transform_non_params=lambda _: "all")
    >>> specs[1][0]
    ScaleByAdamState(count='all', mu={'w': 'rows'}, nu={'w': 'rows'}, weights={})

    Raises:
      TypeError: `tx` is neither a transformation nor a function, or `state` is not a state of `tx`.
      ValueError: a tree in `rest` does not have the structure of the parameters.
    """
    owner = getattr(tx, "__self__", None)
    if isinstance(owner, GradientTransformation) and getattr(tx, "__name__", "") == "init":
        tx = owner
    job = _Job(f, transform_non_params, is_leaf)
    if isinstance(tx, Stateful):
        return job.of_stateful(tx, state, rest)
    init = getattr(tx, "init", tx)
    if not callable(init) or isinstance(tx, type):
        raise TypeError(
            f"map_params: expected a transformation or its init function, got {checks.shown(tx)}. Give the tx of "
            "state = tx.init(params)."
        )
    return job.of_foreign(init(_Params()), state, rest)


@jax.tree_util.register_static
class _Params:
    """A tree without leaves that stands for the parameters."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Params)

    def __hash__(self) -> int:
        return hash(_Params)

    def __repr__(self) -> str:
        return "the placeholder of map_params for the parameters"


class _Job(Frozen):
    f: Any
    transform_non_params: Any
    is_leaf: Any

    def of_stateful(self, tx: Any, state: State, rest: Any) -> Any:
        """Maps the state of a transformation; `rest` is None if it sees no arrays shaped like the parameters."""
        if not isinstance(tx, Stateful):
            return self.others(state) if rest is None else self.of_foreign(tx.init(_Params()), state, rest)
        if tx.State is not None:
            check_class(Owner(type(tx).__name__, UNKNOWN, ""), state, tx.State)
            state = self.of_fields(state, rest)
        if isinstance(tx, Composite):
            states = tx.child_states(state)
            state = tx.with_child_states(
                state,
                {
                    name: self.of_stateful(child, states[name], None if rest is None else tx.shown_to(name, rest))
                    for name, child in tx.children().items()
                },
            )
        return state

    def of_fields(self, state: State, rest: Any) -> Any:
        """Maps a declared state; the states of inner transformations in it are unchanged."""
        new: dict[str, Any] = {}
        for name, slot in declared(type(state)).items():
            value = getattr(state, name)
            if not isinstance(slot, child_state):
                absent = slot.when is not None and isinstance(value, tuple) and not value
                is_like = isinstance(slot, per_param) and rest is not None and not absent
                new[name] = self.params(value, rest) if is_like else self.others(value)
        return state._replace(**new)

    def of_foreign(self, made: Any, state: State, rest: Any) -> Any:
        """Maps a state of which `made` is the one for a placeholder; it may contain declared states."""
        if isinstance(made, _Params):
            return self.params(state, rest)
        entries, treedef = children(made)
        if not entries:
            return self.others(state, whole=True) if treedef.num_leaves else state
        parts = treedef.flatten_up_to(state)
        new: list[Any] = []
        for (key, item), part in zip(entries, parts, strict=True):
            slot = made._field_defaults[key.name] if is_state(made) else None
            other = isinstance(slot, PerLeaf) and not isinstance(slot, per_param)
            new.append(self.others(part) if other else self.of_foreign(item, part, rest))
        return treedef.unflatten(new)

    def params(self, value: Any, rest: Any) -> Any:
        """Maps a tree like the parameters."""
        if not any(isinstance(tree, ByPath) for tree in rest):
            return jax.tree.map(
                lambda x, *others: None if x is None else self.one(x, *others),  # a slot may have nothing for a leaf
                value,
                *rest,
                is_leaf=lambda x: x is None or self.is_one(x),
            )
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self.one(x, *(tree.at(path) for tree in rest)), value, is_leaf=self.is_one
        )

    def is_one(self, x: Any) -> bool:
        """Whether `f` gets `x` whole."""
        return is_packed(x) or (self.is_leaf is not None and self.is_leaf(x))

    def one(self, x: Any, *others: Any) -> Any:
        """Applies `f` to one item. For a slot in a storage format it gets the array, which is then stored again."""
        if not is_packed(x):
            return self.f(x, *others)
        is_shape = any(isinstance(part, jax.ShapeDtypeStruct) for part in jax.tree.leaves(x))
        before = x.like if is_shape else x.load()
        after = self.f(before, *others)
        if after is before:
            return x
        return x.store(after) if isinstance(after, jax.Array) and after.shape == x.shape else after

    def others(self, value: Any, *, whole: bool = False) -> Any:
        """Maps something else; `whole` if it is one item, whatever it consists of."""
        if self.transform_non_params is None:
            return value
        return self.transform_non_params(value) if whole else jax.tree.map(self.transform_non_params, value)
