"""Groups: every leaf goes to one of several transformations, by its label.

A group's transformation sees a plain dict from path (`dense/bias`) to leaf with the leaves of that label alone, so
its state holds nothing for the others, and no placeholder enters any tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax

from gradtx import checks, select
from gradtx.core.composite import Composite, View
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.mask import is_function
from gradtx.core.prefix import ByPath, spread
from gradtx.core.slots import child_state
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, static
from gradtx.types import Params, State, Transformation, Updates

__all__ = ["PartitionState", "partition"]


class PartitionState(NamedTuple):
    """The state of each group by its label, or by the label's text where JAX cannot sort the labels."""

    inner_states: dict[Any, Any] = child_state(of=None)


class _Group(View):
    """The leaves of one label, in a dict by path."""

    selects = True

    def __init__(self, label: Any, labels: Sequence[Any], paths: Sequence[str]) -> None:
        self.label, self.labels, self.paths = label, labels, paths

    def seen(self, tree: Any) -> dict[str, Any]:
        rows = zip(self.labels, self.paths, jax.tree.leaves(tree), strict=True)
        return {path: x for label, path, x in rows if label == self.label}

    def restored(self, part: Any, tree: Any) -> Any:
        leaves, treedef = jax.tree.flatten(tree)
        return treedef.unflatten([part.get(path, x) for path, x in zip(self.paths, leaves, strict=True)])


class partition(Composite, state=PartitionState):
    """Applies to each leaf the transformation of its label.

    `transforms` is a dict from label to transformation; a label is a string, a number, a member of an enum or anything
    else that is hashable. `param_labels` is one of

    - a list of rules `(selector, label)` (`gradtx.select`): the first whose selector matches a leaf gives its label;
    - a tree of labels with the structure of the parameters or a prefix of it;
    - a function from the parameters, or from the updates where `update` has no params, to such a tree.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.partition({"fast": gx.sgd(1.0), "still": gx.set_to_zero()}, {"w": "fast", "b": "still"})
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> print(updates["w"], updates["b"])
    [-1. -1.] [0. 0.]

    Raises:
      TypeError: `transforms` is no dict of transformations.
      ValueError: two labels have the same text; a leaf has a label that no transformation has, or the labels do not fit
        the tree; no rule matches a leaf, or no leaf is left for a transformation.
    """

    transforms: tuple[Any, ...] = child()
    labels: tuple[Any, ...] = static()
    param_labels: Any = static()

    def __init__(self, transforms: Mapping[Any, Transformation], param_labels: Any) -> None:
        if not isinstance(transforms, Mapping):
            raise TypeError(
                f"partition: transforms must be a dict from label to transformation, got {checks.shown(transforms)}."
            )
        links = tuple(as_transformation("partition", tx) for tx in transforms.values())
        for text, count in Counter(map(str, transforms)).items():
            if count > 1:
                raise ValueError(
                    f"partition: two labels have the text {text!r}, by which hyperparameters are named. Rename one."
                )
        object.__setattr__(self, "transforms", links)
        object.__setattr__(self, "labels", tuple(transforms))
        object.__setattr__(self, "param_labels", _stored(param_labels))

    def children(self) -> dict[Any, GradientTransformation]:
        return dict(zip(_sortable(self.labels), self.transforms, strict=True))

    def views(self, tree: Any) -> dict[Any, View]:
        return self._groups("params", tree)

    def shown_to(self, name: Any, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        del name
        return tuple(map(ByPath, trees))

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, PartitionState]:
        treedef = jax.tree.structure(updates)
        if params is not None and jax.tree.structure(params) != treedef:
            raise checks.tree_mismatch("partition", "updates", updates, "params", params)
        missing = params is None and treedef.num_leaves > 0  # without leaves None is a tree
        like = updates if params is None else params
        new, states = updates, {}
        for (name, view), tx in zip(self._groups("updates", like).items(), self.transforms, strict=True):
            given = self.given(name, view, extra, like)
            seen = None if missing else view.seen(params)
            part, states[name] = tx.update(view.seen(updates), state.inner_states[name], seen, **given)
            new = view.restored(part, new)
        return new, PartitionState(states)

    def _groups(self, name: str, tree: Any) -> dict[Any, View]:
        labels, paths = self._leaf_labels(name, tree), _paths(tree)
        return {key: _Group(label, labels, paths) for key, label in zip(self.children(), self.labels, strict=True)}

    def _leaf_labels(self, name: str, tree: Any) -> list[Any]:
        """The label of each leaf."""
        labels = self.param_labels
        if isinstance(labels, select.first):
            labels = labels(tree, self.labels)
        else:
            labels = labels.tree if isinstance(labels, FrozenTree) else labels(tree)
        found = spread("partition", "param_labels", labels, name, tree, is_item=self._is_label)
        for i, label in enumerate(found):
            if not self._is_label(label):
                path = checks.keystr(jax.tree_util.tree_leaves_with_path(tree)[i][0])
                raise ValueError(
                    f"partition: the leaf at {path} has the label {label!r}, for which there is no transformation; "
                    f"there are: {', '.join(map(repr, self.labels))}. "
                    "Give the leaf one of these labels, or add a transformation for its own."
                )
        return found

    def _is_label(self, x: Any) -> bool:
        try:
            hash(x)
        except TypeError:
            return False
        return x in self.labels

    def _parts(self) -> dict[str, Any]:
        return dict(zip(map(str, self.labels), self.transforms, strict=True))

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(dict(zip(self.labels, parts.values(), strict=True)), self.param_labels)

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, dict(zip(self.labels, self.transforms, strict=True))
        yield "param_labels", self.param_labels


def _sortable(labels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The labels as keys of the state: JAX sorts the keys of a dict, so where it cannot, their texts."""
    try:
        sorted(labels)
    except TypeError:
        return tuple(map(str, labels))
    return labels


def _stored(param_labels: Any) -> Any:
    if isinstance(param_labels, FrozenTree) or is_function(param_labels):
        return param_labels
    if isinstance(param_labels, (list, tuple)) and param_labels and all(map(select.is_rule, param_labels)):
        return select.first(*param_labels)
    return FrozenTree(param_labels)


def _paths(tree: Any) -> list[str]:
    """The path of each leaf; raises a ValueError where two are the same."""
    paths = checks.paths(tree)
    for path, count in Counter(paths).items():
        if count > 1:
            raise ValueError(
                f"partition: two leaves have the path {path}. Rename a key that has a slash in it, or that reads "
                "like another of another type."
            )
    return paths
