"""Checks that raise, before any work is done, errors that say what is wrong, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.types import Params, Updates

__all__ = [
    "choice",
    "cut",
    "difference",
    "dtype",
    "flag",
    "floating",
    "integer",
    "keystr",
    "kind",
    "listed",
    "needed",
    "ordered",
    "pair",
    "paths",
    "random_key",
    "real",
    "same_shapes",
    "same_tree",
    "scalar",
    "shape",
    "shown",
    "slashed",
    "tree_mismatch",
    "trees",
]

Leaves = Sequence[Any]


def shape(x: Any) -> tuple[int, ...]:
    """Returns the shape of an array or a number; faster than `np.shape`, because it is called for every leaf of
    every step.
    """
    found = getattr(x, "shape", None)
    return np.shape(x) if found is None else found


def shown(x: Any) -> str:
    """Returns `x` as an error message shows it: arrays by dtype and shape, tuples by class and length, others by
    their repr.
    """
    if isinstance(x, (jax.Array, np.ndarray)):
        return f"{x.dtype}[{','.join(map(str, x.shape))}]"
    if isinstance(x, tuple):
        return f"a {type(x).__name__}" + ("" if hasattr(x, "_fields") else f" of {len(x)}")
    return cut(repr(x), 80)


def cut(text: str, most: int) -> str:
    """Returns a text of at most `most` characters: a longer one ends in dots."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def keystr(path: Sequence[Any]) -> str:
    """Returns a key path as users write it, `['dense']['bias']`; for a single leaf, says that it is the tree itself."""
    return jax.tree_util.keystr(tuple(path)) or "(the tree itself, one leaf)"


def slashed(path: Sequence[Any]) -> str:
    """Returns a key path as one string, `dense/bias`."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def paths(tree: Any, is_leaf: Callable[[Any], bool] = lambda x: False) -> list[str]:
    """Returns the path of every leaf, `dense/kernel`; boxes around one value, such as flax variables, add no key."""
    found: list[str] = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: is_leaf(x) or _is_box(x)):
        if is_leaf(node) or jax.tree_util.all_leaves([node]):
            found.append(slashed(path))
        else:
            found += [slashed((*path, *rest[1:])) for rest, _ in jax.tree_util.tree_leaves_with_path(node, is_leaf)]
    return found


def _is_box(x: Any) -> bool:
    """Whether `x` is a node of a tree whose only child is its attribute `value`."""
    if isinstance(x, (dict, list, tuple)) or jax.tree_util.all_leaves([x]):
        return False
    children = jax.tree_util.tree_leaves_with_path(x, is_leaf=lambda y: y is not x)
    return [path for path, _ in children] == [(jax.tree_util.GetAttrKey("value"),)]


def tree_mismatch(who: str, name: str, tree: Any, like_name: str, like: Any) -> ValueError:
    """Returns the error that says where the structures of two trees differ."""
    return ValueError(
        f"{who}: the tree of {name} is not the tree of {like_name}: {difference(name, tree, like_name, like)}. "
        f"Give {name} the structure of {like_name}, leaf for leaf."
    )


def difference(name: str, tree: Any, like_name: str, like: Any) -> str:
    """Describes where the structures of two trees differ."""
    paths = [keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]
    like_paths = [keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(like)]
    missing = [p for p in like_paths if p not in set(paths)]
    extra = [p for p in paths if p not in set(like_paths)]
    found: list[str] = []
    if missing:
        found.append(f"{name} has no leaf at {listed(missing)}")
    if extra:
        found.append(f"{name} has a leaf at {listed(extra)} where {like_name} has none")
    if not found:
        found.append(
            "the leaves have the same paths in containers of other types:\n"
            f"  {jax.tree.structure(tree)}\n  {jax.tree.structure(like)}"
        )
    return "; ".join(found)


def listed(paths: Sequence[str]) -> str:
    """Returns the first three of some names, and how many more there are."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


_NOT_BROADCAST = "Nothing is broadcast here: give both the same shape."


def same_shapes(
    who: str,
    name: str,
    tree: Any,
    leaves: Leaves,
    like_name: str,
    like_leaves: Leaves,
    advice: str = _NOT_BROADCAST,
) -> None:
    """Raises a ValueError that names the first leaf of `tree` whose shape differs from its counterpart's."""
    for i, (x, like) in enumerate(zip(leaves, like_leaves, strict=True)):
        if shape(x) != shape(like):
            raise ValueError(
                f"{who}: at {_path(tree, i)} {name} has shape {shape(x)} and {like_name} has shape "
                f"{shape(like)}. {advice}"
            )


def floating(who: str, name: str, tree: Any, leaves: Leaves, *, shapes: bool = False) -> None:
    """Raises a TypeError that names the first leaf of `tree` that is not a floating-point or complex array.

    With `shapes`, a leaf may be the shape of such an array.
    """
    for i, x in enumerate(leaves):
        if isinstance(x, jax.ShapeDtypeStruct) and not shapes:
            raise TypeError(
                f"{who}: at {_path(tree, i)} {name} has type ShapeDtypeStruct, a shape without values; only tx.init "
                "accepts shapes. For the shapes of a step use jax.eval_shape(tx.update, updates, state, params)."
            )
        found = dtype(x)
        if found is None or kind(found) not in ("real", "complex"):
            what = f"dtype {found}" if found is not None else f"type {type(x).__name__}"
            raise TypeError(
                f"{who}: at {_path(tree, i)} {name} has {what}; only floating and complex arrays can be "
                "optimized. Put None in place of such a leaf, in the parameters and in the gradients."
            )


def same_tree(who: str, name: str, tree: Any, like_name: str, like: Any) -> None:
    """Raises a ValueError that names where `tree` differs from `like` in structure or in the shape of a leaf."""
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise tree_mismatch(who, name, tree, like_name, like)
    same_shapes(who, name, tree, jax.tree.leaves(tree), like_name, jax.tree.leaves(like))


def trees(who: str, updates: Updates, params: Params) -> None:
    """Raises unless the updates are floating-point arrays, and the parameters, if given, are a tree like them."""
    floating(who, "updates", updates, jax.tree.leaves(updates))
    if params is not None:
        same_tree(who, "updates", updates, "params", params)


def real(who: str, name: str, tree: Any, leaves: Leaves) -> None:
    """Raises a TypeError that names the first leaf of `tree` that is complex."""
    for i, x in enumerate(leaves):
        if jnp.iscomplexobj(x):
            raise TypeError(
                f"{who}: at {_path(tree, i)} {name} has dtype {dtype(x)}; this method has no meaning for complex "
                "arrays. Optimize the real and the imaginary part as two real leaves: around a transformation, "
                "gx.split_real_and_imaginary does so."
            )


def scalar(who: str, name: str, value: Any) -> None:
    """Raises unless `value` is one real number: a Python number, or an array of shape ()."""
    found = dtype(value)
    if found is None or kind(found) not in ("real", "integer"):
        raise TypeError(f"{who}: {name} must be a real number, got {shown(value)} of type {type(value).__name__}.")
    if np.shape(value) != ():
        raise ValueError(
            f"{who}: {name} has shape {np.shape(value)}; it is one number, of shape (). Take a mean or a sum first, or "
            "the only entry: x.reshape(())."
        )


def random_key(who: str, name: str, value: Any) -> None:
    """Raises unless `value` is one random key, such as `jax.random.key(0)`."""
    found, shape = dtype(value), np.shape(value)
    typed = found is not None and kind(found) == "key"
    if not (typed or (found == jnp.uint32 and shape)):
        raise TypeError(f"{who}: {name} must be a random key, such as jax.random.key(0), got {shown(value)}.")
    if len(shape) != (0 if typed else 1):
        raise ValueError(f"{who}: {name} has shape {shape}; it is one random key. Give one of them, such as {name}[0].")


def needed(who: str, **given: Any) -> None:
    """Raises a ValueError that names the first argument of `update` that is None, with the call that passes them
    all.
    """
    for name, value in given.items():
        if value is None:
            extra = "".join(f", {other}={other}" for other in given if other != "params")
            advice = ", or use gx.value_and_step" if name in _FROM_VALUE_AND_STEP else ""
            raise ValueError(
                f"{who}.update needs `{name}`, which is missing: call tx.update(updates, state, params{extra}){advice}."
            )


_FROM_VALUE_AND_STEP = {"value", "grad", "value_fn", "grad_fn"}


def flag(who: str, name: str, value: Any) -> bool:
    """Returns `value` as a bool; raises a TypeError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name} must be True or False, got {shown(value)}.")
    return bool(value)


_MOST = 2**31 - 1  # steps, sizes and axes are int32


def integer(who: str, name: str, value: Any, *, ge: int, le: int = _MOST) -> int:
    """Returns `value` as an int; raises unless it is an integer in [ge, le]."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{who}: {name} must be an integer of at least {ge}, got {shown(value)}.")
    if value < ge:
        raise ValueError(f"{who}: {name} must be an integer of at least {ge}, got {value}.")
    if value > le:
        raise ValueError(f"{who}: {name} must be an integer of at most {le}, got {value}.")
    return int(value)


def pair(who: str, name: str, value: Any) -> tuple[Any, Any]:
    """Returns `value` as two items; raises a TypeError unless it is a tuple or list of two."""
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise TypeError(f"{who}: {name} must be a pair, as in (0.9, 0.999), got {shown(value)}.")
    return value[0], value[1]


def choice(who: str, name: str, value: Any, options: Sequence[Any]) -> Any:
    """Returns `value`; raises unless it is one of `options`."""
    if value not in options:
        raise ValueError(f"{who}: {name} must be one of {', '.join(map(repr, options))}, got {shown(value)}.")
    return value


def ordered(who: str, **bounds: Any) -> None:
    """Raises a ValueError if the first of two bounds is a number larger than the second."""
    (low, least), (high, most) = bounds.items()
    numbers = all(isinstance(x, (int, float)) for x in (least, most))
    if numbers and least > most:
        raise ValueError(f"{who}: {low} must not be larger than {high}, got {least!r} and {most!r}.")


_KINDS: dict[Any, str] = {}
_KIND_OF = {
    "real": jnp.floating,
    "complex": jnp.complexfloating,
    "integer": jnp.integer,
    "bool": jnp.bool_,
    "key": jax.dtypes.prng_key,
}


def kind(dtype: Any) -> str:
    """Returns 'real', 'complex', 'integer', 'bool', 'key' or 'other'.

    The answer is cached, because it is needed for every leaf of every step.
    """
    known = _KINDS.get(dtype)
    if known is None:
        found = [name for name, group in _KIND_OF.items() if jnp.issubdtype(dtype, group)]
        known = _KINDS[dtype] = found[0] if found else "other"
    return known


def dtype(x: Any) -> Any:
    """Returns the dtype of an array or number; None for anything else."""
    found = getattr(x, "dtype", None)
    if found is None and isinstance(x, (bool, int, float, complex)):
        found = jnp.result_type(x)
    return found


def _path(tree: Any, index: int) -> str:
    return keystr(jax.tree_util.tree_leaves_with_path(tree)[index][0])
