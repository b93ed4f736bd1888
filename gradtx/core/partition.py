"""Parameter groups: each leaf is updated by one of several transformations, chosen by its label.

The transformation of a group sees a plain dict from path (`dense/bias`) to leaf, with only the leaves of its label.
So its state holds nothing for the other leaves, and no tree contains placeholders.
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
    """State of `partition`: the state of each group by its label (by the label's text if JAX cannot sort the
    labels).
    """

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
    """Applies a different transformation to each group of parameters.

    Use it for parameter groups: another learning rate for the head, no weight decay for biases, frozen layers (with
    `gx.set_to_zero()`), Muon for matrices and AdamW for the rest.

    Args:
      transforms: A dict from label to transformation. A label is a string, a number, a member of an enum, or any
        other hashable object.
      param_labels: Which leaf has which label. One of (1) a list of pairs `(selector, label)` (see
        `gradtx.select`): the first selector that matches a leaf decides; (2) a tree of labels with the structure of
        the parameters, or a prefix of it; (3) a function that returns such a tree, of the parameters, or of the
        updates if `update` gets no parameters.

    Returns:
      A transformation. State: the states of the groups by label; each holds arrays only for its own leaves.

    >>> import gradtx as gx, jax.numpy as jnp
    >>> tx = gx.partition({"fast": gx.sgd(1.0), "still": gx.set_to_zero()}, {"w": "fast", "b": "still"})
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> print(updates["w"], updates["b"])
    [-1. -1.] [0. 0.]

    Raises:
      TypeError: `transforms` is not a dict of transformations.
      ValueError: two labels have the same text; a leaf has an unknown label, or no rule matches it; the labels do
        not fit the tree; or a transformation gets no leaf.
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
        missing = (
            params is None and treedef.num_leaves > 0
        )  # if there are no leaves, None is a valid tree of parameters
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
        """Returns the label of each leaf."""
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
    """Returns the labels as keys of the state, or their texts if JAX cannot sort the labels as keys of a dict."""
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
    """Returns the path of each leaf; raises a ValueError if two paths are the same."""
    paths = checks.paths(tree)
    for path, count in Counter(paths).items():
        if count > 1:
            raise ValueError(
                f"partition: two leaves have the path {path}. Rename a key that contains a slash, or that has "
                "the same text as another key."
            )
    return paths
