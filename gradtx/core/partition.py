"""Groups: every leaf goes to one of several transformations, by its label.

A group's transformation sees a plain dict from path (`dense/bias`) to leaf with the leaves of that label alone, so
its state holds nothing for the others, and no placeholder enters any tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import jax

from gradtx import checks, select
from gradtx.core.mask import is_function
from gradtx.core.transformation import STANDARD_EXTRA_ARGS, GradientTransformation, as_transformation
from gradtx.core.value import FrozenTree, child, static

__all__ = ["PartitionState", "partition"]


class PartitionState(NamedTuple):
    """The state of each group by its label."""

    inner_states: dict[str, Any]


class partition(GradientTransformation):
    """Applies to each leaf the transformation of its label.

    `transforms` is a dict from label to transformation. `param_labels` is one of

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
      ValueError: a leaf has a label that no transformation has, or the labels do not fit the tree; no rule matches a
        leaf, or no leaf is left for a transformation.
    """

    transforms: tuple[Any, ...] = child()
    labels: tuple[str, ...] = static()
    param_labels: Any = static()

    def __init__(self, transforms: Mapping[str, Any], param_labels: Any) -> None:
        if not isinstance(transforms, Mapping):
            raise TypeError(
                f"partition: transforms must be a dict from label to transformation, got {checks.shown(transforms)}."
            )
        links = tuple(as_transformation("partition", tx) for tx in transforms.values())
        object.__setattr__(self, "transforms", links)
        object.__setattr__(self, "labels", tuple(transforms))
        object.__setattr__(self, "param_labels", _stored(param_labels))

    def init(self, params: Any) -> PartitionState:
        groups = self._split(params, self._leaf_labels("params", params), _paths(params))
        return PartitionState({label: tx.init(groups[label]) for label, tx in self._groups()})

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, PartitionState]:
        self._check_extra(extra)
        self._check_state(state, PartitionState)
        treedef = jax.tree.structure(updates)
        if params is not None and jax.tree.structure(params) != treedef:
            raise checks.tree_mismatch("partition", "updates", updates, "params", params)
        labels, paths = self._leaf_labels("updates", updates if params is None else params), _paths(updates)
        groups = self._split(updates, labels, paths)
        missing = params is None and bool(paths)  # without leaves None is a tree
        p_groups = dict.fromkeys(self.labels) if missing else self._split(params, labels, paths)
        new_states, out = {}, {}
        for label, tx in self._groups():

            def given(name: str, x: Any, label: str = label) -> Any:
                if name in ("value_fn", "grad_fn") and params is not None:
                    return self._of_group(label, x, params, labels, paths, gradient=name == "grad_fn")
                is_like = name not in STANDARD_EXTRA_ARGS - {"grad"} and jax.tree.structure(x) == treedef
                return self._split(x, labels, paths)[label] if is_like else x

            known = {name: given(name, x) for name, x in tx._used(extra).items()}
            new, new_states[label] = tx.update(groups[label], state.inner_states[label], p_groups[label], **known)
            out |= new
        return treedef.unflatten([out[path] for path in paths]), PartitionState(new_states)

    def _of_group(
        self, label: str, fn: Callable[..., Any], params: Any, labels: list[str], paths: list[str], gradient: bool
    ) -> Callable[..., Any]:
        """A function of the parameters as one of a group's, the others as they are; of a gradient, the group's part."""
        leaves, treedef = jax.tree.flatten(params)

        def of_group(group: dict[str, Any], *args: Any) -> Any:
            result = fn(treedef.unflatten([group.get(path, x) for path, x in zip(paths, leaves, strict=True)]), *args)
            return self._split(result, labels, paths)[label] if gradient else result

        return of_group

    def _groups(self) -> Iterator[tuple[str, GradientTransformation]]:
        return zip(self.labels, self.transforms, strict=True)

    def _leaf_labels(self, name: str, tree: Any) -> list[str]:
        """The label of each leaf."""
        labels = self.param_labels
        if isinstance(labels, select.first):
            labels = labels(tree, self.labels)
        else:
            labels = labels.tree if isinstance(labels, FrozenTree) else labels(tree)
        try:
            full = jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), labels, tree)
        except ValueError:
            raise checks.tree_mismatch("partition", "param_labels", labels, name, tree) from None
        for path, label in jax.tree_util.tree_leaves_with_path(full):
            if label not in self.labels:
                raise ValueError(
                    f"partition: the leaf at {checks.keystr(path)} has the label {checks.shown(label)}, for which "
                    f"there is no transformation; there are: {', '.join(self.labels)}. "
                    "Give the leaf one of these labels, or add a transformation for its own."
                )
        return jax.tree.leaves(full)

    def _split(self, tree: Any, labels: list[str], paths: list[str]) -> dict[str, dict[str, Any]]:
        """The leaves of each group by their paths."""
        groups: dict[str, dict[str, Any]] = {label: {} for label in self.labels}
        for label, path, x in zip(labels, paths, jax.tree.leaves(tree), strict=True):
            groups[label][path] = x
        return groups

    def _accepts(self, name: str) -> bool:
        return super()._accepts(name) or any(tx._accepts(name) for tx in self.transforms)

    # --- names, hyperparameters, repr

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        for label, tx in self._groups():
            inner = None if state is None else state.inner_states[label]
            yield from ((f"{label}.{name}", value) for name, value in tx._hyperparameters(inner))

    def _parts(self) -> dict[str, Any]:
        return dict(self._groups())

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(parts, self.param_labels)

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, dict(self._groups())
        yield "param_labels", self.param_labels


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
