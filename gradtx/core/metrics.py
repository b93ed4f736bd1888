"""Metrics that states report: `gradtx.metrics` collects them from anywhere in a nested state.

    @reports(skipped="total_notfinite")
    class ApplyIfFiniteState(NamedTuple): ...

A metric is identified by the class of the state that holds it, so the name of a parameter is never mistaken for
one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks
from gradtx.core.slots import PerLeaf
from gradtx.types import State

__all__ = ["find", "metrics", "only", "own_metrics", "reports"]

_REPORTS: dict[type[Any], dict[str, str]] = {}


def reports(*fields: str, **names: str) -> Callable[[type[Any]], type[Any]]:
    """Declares which fields of a state class are metrics.

    A field that holds a dict reports the scalars in it by their keys. A slot with something per parameter reports
    the sum of all its numbers.

    Args:
      *fields: Names of fields, reported under these names.
      **names: Fields that are reported under another name, as `reported_name="field"`.

    Returns:
      A class decorator.
    """

    def declare(state: type[Any]) -> type[Any]:
        _REPORTS[state] = {**dict(zip(fields, fields, strict=True)), **names}
        return state

    return declare


def find(state: State, *kinds: type[Any]) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns every state of one of the classes in a nested state with its path, outer ones first."""

    def walk(tree: Any, above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: type(x) in kinds):
            if type(node) in kinds:
                here = above + path
                yield here, node
                for name, inner in zip(node._fields, node, strict=True):
                    yield from walk(inner, (*here, jax.tree_util.GetAttrKey(name)))

    return list(walk(state, ()))


def only(who: str, state: State, kind: type[Any], what: str, advice: str) -> Any:
    """Returns the single state of this class in a nested state; raises a ValueError if there is none or more than
    one.
    """
    found = find(state, kind)
    if len(found) != 1:
        raise ValueError(f"{who}: the state has {len(found)} {what} in it; one is needed. {advice}")
    return found[0][1]


def metrics(state: State) -> dict[str, Array]:
    """Collects every scalar that some part of a state reports, in one flat dict by name.

    Use it for logging, inside or outside of a jitted step. It costs nothing, as the numbers are already in the
    state. If several parts report the same name, all but the outermost get their path in front, as in
    `inner_states/a/0/clip_factor`.

    Args:
      state: The state of a transformation. Wrap the transformation in `gx.with_metrics` for norms of gradients,
        updates and parameters; clipping, skipping and other transformations report their own numbers.

    Returns:
      A dict from name to scalar array.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.with_metrics(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)))
    >>> params = {"mu": jnp.array([3.0, 4.0])}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> for name, value in gx.metrics(state).items():
    ...     print(name, round(float(value), 3))
    finite 1.0
    grad_norm 5.0
    learning_rate 0.1
    param_norm 5.0
    update_norm 0.1
    update_ratio 0.02
    clip_factor 0.2
    """
    found = [
        (name, checks.slashed(path), value)
        for path, part in find(state, *_REPORTS)
        for name, value in own_metrics(part).items()
    ]
    counts = Counter(name for name, _, _ in found)
    return {name if counts[name] == 1 or not path else f"{path}/{name}": value for name, path, value in found}


def own_metrics(state: State) -> dict[str, Array]:
    """Returns the scalars that a state itself reports, without the scalars of inner states."""
    slots = getattr(type(state), "_field_defaults", {})
    named = _fields(type(state)) if type(state) in _REPORTS else []
    return {
        name: value
        for field, reported in named
        for name, value in _scalars(reported, getattr(state, field), slots.get(field))
    }


def _fields(state: type[Any]) -> list[tuple[str, str]]:
    return [(field, name) for name, field in _REPORTS[state].items()]


def _scalars(name: str, value: Any, slot: Any) -> Iterator[tuple[str, Any]]:
    """Yields the scalars of a field by name: the field itself, the sum of one per parameter, or the entries of a
    dict.
    """
    if isinstance(slot, PerLeaf):
        yield name, sum((jnp.sum(x, dtype=x.dtype) for x in jax.tree.leaves(value)), jnp.zeros((), jnp.int32))
        return
    for key, node in value.items() if isinstance(value, dict) else [(name, value)]:
        leaves = jax.tree.leaves(node)
        if checks.paths(node) == [""] and np.shape(leaves[0]) == ():  # not a tree of scalars
            yield key, leaves[0]
