"""Fields of states, found and set by name, wherever they stand.

The slots of a state say which of its fields hold something per parameter. A search finds such a field, `mu`, and does
not look at the keys inside of it: these are names of parameters.
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
    """A step of a path into a NamedTuple: the name of its class, and that of the field.

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
    """The value of a field, wherever it stands in a state.

    What is found is a field of a NamedTuple or dataclass, a key of a dict, such as a hyperparameter of
    `inject_hyperparams`, or a whole state by the name of its class.

    In a state of this library a parameter's name is never taken for a field: the fields are declared by slots
    (`gx.rules`), and the search does not look inside of those that hold something per parameter. The states of other
    libraries declare nothing, so there every key counts; give `filtering`.

    Args:
      tree: The state, or any other tree.
      key: The name of the field.
      default: What to return where there is no such field.
      filtering: None, or a function `filtering(path, value) -> bool` of the fields with this name; those for which it
        is false do not count. A path is a tuple of keys of `jax.tree_util`, with a `NamedTupleKey` for a field of a
        NamedTuple.

    Returns:
      The value. Where several fields are called `count`, and all their values are equal, it is that one: each link of a
      chain counts the steps. Of traced counts, which cannot be compared, it is the first.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"mu": jnp.ones(2)}
    >>> state = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1)).init(params)
    >>> print(gx.tree.get(state, "mu")["mu"], gx.tree.get(state, "count"))
    [0. 0.] 0

    Raises:
      KeyError: There are several fields of this name. The error lists them with their paths.
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
    """All fields of a name in a state, as pairs of path and value.

    The arguments, and what counts as a field, are those of `get`. A field inside of another one of the same name comes
    after it.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> state = gx.inject_hyperparams(gx.sgd)(learning_rate=0.5).init(jnp.ones(2))
    >>> for path, value in gx.tree.get_all_with_path(state, "learning_rate"):
    ...     print(jax.tree_util.keystr(path), value)
    InjectHyperparamsState.hyperparams['learning_rate'] 0.5
    """
    found = _search((), tree, key)
    return [(path, value) for path, value in found if filtering is None or filtering(path, value)]


def set(tree: Any, filtering: Filter | None = None, /, **kwargs: Any) -> Any:  # noqa: A001
    """A copy of a state in which some fields have other values.

    Every field of that name is set; what counts as one is said in `get`. A number takes the dtype of the number that it
    replaces, where that can hold it, so that a compiled step need not be compiled again.

    Args:
      tree: The state, or any other tree.
      filtering: None, or a function `filtering(path, value) -> bool` that says which of them to set, as in `get`.
      **kwargs: The new values by name.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> state = gx.inject_hyperparams(gx.adam)(learning_rate=0.5).init({"b1": jnp.ones(2)})
    >>> state = gx.tree.set(state, learning_rate=0.1)
    >>> print(gx.tree.get(state, "learning_rate"))
    0.1

    Raises:
      KeyError: No field has one of these names, or `filtering` is false for all that have. The error lists the names
        that there are.
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
    """The children of a node of a tree as pairs of key and value, and its structure without them; none for a leaf."""
    found, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    if any(not path for path, _ in found):
        return [], treedef
    who = type(node).__name__
    named = hasattr(node, "_fields") and isinstance(node, tuple)
    return [(NamedTupleKey(who, path[0].name) if named else path[0], value) for path, value in found], treedef


def _name(key: Any) -> Any:
    """The name of a field; None for a place in a sequence."""
    return key.key if isinstance(key, jax.tree_util.DictKey) else getattr(key, "name", None)


def _is_called(node: Any, key: Any) -> bool:
    """Whether it is a NamedTuple whose class has this name."""
    return isinstance(node, tuple) and hasattr(node, "_fields") and type(node).__name__ == key


def _is_of_params(node: Any, key: Any) -> bool:
    """Whether the field of a state holds something whose keys are names of parameters, or of decays."""
    return is_state(node) and isinstance(node._field_defaults[key.name], (PerLeaf, average_weights))


def _search(path: tuple[Any, ...], node: Any, name: Any) -> list[tuple[Any, Any]]:
    """The fields of a name in `node`; those inside of others come after all others."""
    tops = list(_tops(path, node, name))
    found = [item for direct, _ in tops for item in direct]
    for _, inside in tops:
        for key_path, value in inside:
            found += _search(key_path, value, name)
    return found


def _tops(path: tuple[Any, ...], node: Any, name: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """For the highest nodes that have a field of this name, or are called so: these fields, and what to search next."""
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
    """The names of all fields."""
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
    new = []
    for key, old in entries:
        key_path = (*path, key)
        if isinstance(_name(key), str) and _name(key) in values and chosen(key_path, old):
            new.append(_like(values[_name(key)], old))
        else:
            new.append(old if _is_of_params(node, key) else _replaced(key_path, old, chosen, values))
    return treedef.unflatten(new)


def _like(value: Any, old: Any) -> Any:
    """A Python number in the dtype of the number that it replaces, if that can hold it."""
    is_number = isinstance(old, jax.Array) and old.shape == () and (leaf.is_number(value) or isinstance(value, bool))
    return jnp.asarray(value, old.dtype) if is_number and jnp.result_type(old, value) == old.dtype else value


def _agree(values: list[Any]) -> bool:
    """Whether all counts are equal; those that are traced, or shapes, are taken to be."""
    if any(isinstance(x, (Tracer, jax.ShapeDtypeStruct)) for x in values):
        return True
    if not all(isinstance(x, (jax.Array, np.ndarray, np.generic, int)) for x in values):
        return False
    return all(np.array_equal(np.asarray(x), np.asarray(values[0])) for x in values[1:])


def _text(value: Any) -> str:
    """A value as an error shows it: a number itself, an array by dtype and shape."""
    is_number = isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.shape == ()
    return str(value) if is_number else checks.shown(value)


def _shown(path: Any) -> str:
    return jax.tree_util.keystr(path) or "the tree itself"
