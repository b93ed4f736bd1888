"""Finds and sets fields of states by name, wherever they are.

The slots of a state say which of its fields hold something per parameter. A search finds such a field, `mu`, and
does not look at the keys inside of it, because they are names of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx import checks, leaf
from gradtx.core.slots import PerLeaf, Slot, average_weights
from gradtx.frozen import Frozen

__all__ = ["NamedTupleKey", "children", "get", "get_all_with_path", "is_state", "set"]

Filter = Callable[[Any, Any], bool]


class NamedTupleKey(Frozen):
    """A step of a path into a NamedTuple: the name of its class and the name of the field.

    Paths from `get_all_with_path` and in `filtering` functions contain such keys.

    Args:
      tuple_name: The name of the NamedTuple class, such as "ScaleByAdamState".
      name: The name of the field, such as "mu".

    >>> import gradtx as gx, jax.numpy as jnp
    >>> ((path, count),) = gx.tree.get_all_with_path(gx.scale_by_adam().init(jnp.ones(2)), "count")
    >>> print(path[-1], path[-1].tuple_name, path[-1].name)
    ScaleByAdamState.count ScaleByAdamState count
    """

    tuple_name: str
    name: str

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


def get(tree: Any, key: Any, default: Any = None, filtering: Filter | None = None) -> Any:
    """Returns the value of a field by its name, wherever the field is in a state.

    Use it to read `mu`, `count` or an injected `learning_rate` from a nested state. A match is a field of a
    NamedTuple or dataclass, a key of a dict (such as a hyperparameter of `inject_hyperparams`), or a whole state by
    the name of its class.

    In the states of this library, the name of a parameter is never mistaken for a field: fields are declared by
    slots (`gx.rules`), and the search does not look inside those that hold something per parameter. The states of
    other libraries declare nothing, so every key counts there; use `filtering` to narrow the search.

    Args:
      tree: The state, or any other tree.
      key: The name of the field.
      default: What to return if there is no such field. None by default.
      filtering: A function `(path, value) -> bool`; only fields for which it returns True count. A path is a tuple
        of keys of `jax.tree_util`, with a `NamedTupleKey` for a field of a NamedTuple. None (default) for all
        fields.

    Returns:
      The value. If there are several fields named `count` and their values are equal (each link of a chain counts
      the steps), it is this value. Traced counts, which cannot be compared, are assumed to be equal.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"mu": jnp.ones(2)}
    >>> state = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1)).init(params)
    >>> print(gx.tree.get(state, "mu")["mu"], gx.tree.get(state, "count"))
    [0. 0.] 0

    Raises:
      KeyError: there are several fields with this name. The error lists them with their paths.
    """
    found = get_all_with_path(tree, key, filtering)
    if len(found) > 1 and not (key == "count" and _agree([value for _, value in found])):
        where = "\n".join(f"  {_shown(path)} = {_text(value)}" for path, value in found)
        raise KeyError(
            f"get: {len(found)} fields are called {key!r}. Give filtering=lambda path, value: ..., or use "
            f"get_all_with_path. They are:\n{where}"
        )
    return found[0][1] if found else default


def get_all_with_path(tree: Any, key: Any, filtering: Filter | None = None) -> list[tuple[Any, Any]]:
    """Returns all fields with a name in a state, as pairs of path and value.

    See `get` for what counts as a field.

    Args:
      tree: The state, or any other tree.
      key: The name of the fields.
      filtering: A function `(path, value) -> bool`; only fields for which it returns True count. None (default) for
        all fields.

    Returns:
      A list of pairs. A field inside another field of the same name comes after it.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> state = gx.inject_hyperparams(gx.sgd)(learning_rate=0.5).init(jnp.ones(2))
    >>> for path, value in gx.tree.get_all_with_path(state, "learning_rate"):
    ...     print(jax.tree_util.keystr(path), value)
    InjectHyperparamsState.hyperparams['learning_rate'] 0.5
    """
    found = _search((), tree, key)
    return [(path, value) for path, value in found if filtering is None or filtering(path, value)]


def set(tree: Any, filtering: Filter | None = None, /, **kwargs: Any) -> Any:  # noqa: A001
    """Returns a copy of a state with other values for some fields, found by name.

    Use it to change an injected learning rate during training. Every field with the name is set; see `get` for what
    counts as a field. A number is cast to the dtype of the number it replaces, if that can hold it, so that a
    compiled step need not be compiled again.

    Args:
      tree: The state, or any other tree.
      filtering: A function `(path, value) -> bool` that says which of the fields to set. None (default) for all.
      **kwargs: The new values by the name of the field.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> state = gx.inject_hyperparams(gx.adam)(learning_rate=0.5).init({"b1": jnp.ones(2)})
    >>> state = gx.tree.set(state, learning_rate=0.1)
    >>> print(gx.tree.get(state, "learning_rate"))
    0.1

    Raises:
      KeyError: no field has one of these names, or `filtering` returns False for all that have. The error lists the
        names of all fields.
    """
    for key in kwargs:
        if not get_all_with_path(tree, key, filtering):
            without = get_all_with_path(tree, key)
            if without:
                where = ", ".join(_shown(path) for path, _ in without)
                raise KeyError(f"set: filtering is false for every field that is called {key!r}: {where}.")
            names = sorted({str(name) for name in _names(tree)})
            raise KeyError(f"set: no field is called {key!r}. There are: {', '.join(names) or 'none'}.")
    return _replaced((), tree, filtering or (lambda path, value: True), kwargs)


def is_state(node: Any) -> bool:
    """Whether `node` is a state whose fields are declared by slots."""
    slots = getattr(node, "_field_defaults", None)
    return isinstance(node, tuple) and bool(slots) and all(isinstance(slot, Slot) for slot in slots.values())


def children(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Returns the children of a node as pairs of key and value, and its structure without them; none for a leaf."""
    found, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if any(not path for path, _ in found):
        return [], treedef
    who = type(node).__name__
    named = hasattr(node, "_fields") and isinstance(node, tuple)
    return [(NamedTupleKey(who, path[0].name) if named else path[0], value) for path, value in found], treedef


def _name(key: Any) -> Any:
    """Returns the name of a field; None for a position in a sequence."""
    return key.key if isinstance(key, jax.tree_util.DictKey) else getattr(key, "name", None)


def _is_called(node: Any, key: Any) -> bool:
    """Whether `node` is a NamedTuple whose class has this name."""
    return isinstance(node, tuple) and hasattr(node, "_fields") and type(node).__name__ == key


def _is_of_params(node: Any, key: Any) -> bool:
    """Whether the field of a state holds something whose keys are names of parameters, or of decay rates."""
    return is_state(node) and isinstance(node._field_defaults[key.name], (PerLeaf, average_weights))


def _search(path: tuple[Any, ...], node: Any, name: Any) -> list[tuple[Any, Any]]:
    """Returns the fields with a name in `node`; fields inside others come last."""
    tops = list(_tops(path, node, name))
    found = [item for direct, _ in tops for item in direct]
    for _, inside in tops:
        for key_path, value in inside:
            found += _search(key_path, value, name)
    return found


def _tops(path: tuple[Any, ...], node: Any, name: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yields for the highest nodes with such a field, or such a class name, these fields and what to search next."""
    entries = children(node)[0]
    inside = [((*path, key), value) for key, value in entries if not _is_of_params(node, key)]
    direct = [((*path, key), value) for key, value in entries if _name(key) == name and _name(key) is not None]
    if _is_called(node, name):
        direct = [(path, node)]
    if direct:
        yield direct, inside
    else:
        for key_path, value in inside:
            yield from _tops(key_path, value, name)


def _names(node: Any) -> Iterator[Any]:
    """Yields the names of all fields."""
    for key, value in children(node)[0]:
        if _name(key) is not None:
            yield _name(key)
        if not _is_of_params(node, key):
            yield from _names(value)


def _replaced(path: tuple[Any, ...], node: Any, chosen: Filter, values: dict[str, Any]) -> Any:
    if any(_is_called(node, name) for name in values) and chosen(path, node):
        return values[type(node).__name__]
    entries, treedef = children(node)
    if not entries:
        return node
    new: list[Any] = []
    for key, old in entries:
        key_path = (*path, key)
        if isinstance(_name(key), str) and _name(key) in values and chosen(key_path, old):
            new.append(_like(values[_name(key)], old))
        else:
            new.append(old if _is_of_params(node, key) else _replaced(key_path, old, chosen, values))
    return treedef.unflatten(new)


def _like(value: Any, old: Any) -> Any:
    """Returns a Python number in the dtype of the number that it replaces, if that dtype can hold it."""
    is_number = isinstance(old, jax.Array) and old.shape == () and (leaf.is_number(value) or isinstance(value, bool))
    return jnp.asarray(value, old.dtype) if is_number and jnp.result_type(old, value) == old.dtype else value


def _agree(values: list[Any]) -> bool:
    """Whether all counts are equal; traced counts and shapes are assumed to be."""
    if any(isinstance(x, (Tracer, jax.ShapeDtypeStruct)) for x in values):
        return True
    if not all(isinstance(x, (jax.Array, np.ndarray, np.generic, int)) for x in values):
        return False
    return all(np.array_equal(np.asarray(x), np.asarray(values[0])) for x in values[1:])


def _text(value: Any) -> str:
    """Returns a value as an error shows it: numbers as they are, arrays by dtype and shape."""
    is_number = isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.shape == ()
    return str(value) if is_number else checks.shown(value)


def _shown(path: Any) -> str:
    return jax.tree_util.keystr(path) or "the tree itself"
