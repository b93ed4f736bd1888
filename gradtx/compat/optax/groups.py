"""Groups of leaves whose states have optax's structure.

In gradtx a group's transformation sees a dict from path to leaf. In optax it sees the whole tree, with a `MaskedNode`
(an empty tuple) in place of the leaves of other groups, and its state is in a `MaskedState`. The functions here work
like optax: the states have optax's structure, and a mask for the whole tree can be used inside a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import numpy as np

import gradtx as gx
from gradtx.compat.optax.spelled import spelled
from gradtx.core import mask as masks
from gradtx.core.composite import View, Wrapper
from gradtx.core.mask import is_function
from gradtx.core.prefix import ByPath
from gradtx.core.slots import child_state
from gradtx.core.value import flag, static

__all__ = ["MaskedNode", "MaskedState", "freeze", "masked", "partition", "selective_transform"]


class MaskedNode(NamedTuple):
    """An empty node in place of a leaf that is masked out."""


class MaskedState(NamedTuple):
    """The state of the inner transformation."""

    inner_state: Any = child_state()


class _Some(View):
    """Presents a tree with a `MaskedNode` in place of each leaf that is not selected."""

    selects = True

    def __init__(self, selected: Any, *, hides_arguments: bool = True) -> None:
        self.selected, self.hides_arguments = selected, hides_arguments

    def seen(self, tree: Any) -> Any:
        return jax.tree.map(lambda yes, part: part if yes else MaskedNode(), self.selected, tree)

    def restored(self, part: Any, tree: Any) -> Any:
        return jax.tree.map(lambda yes, new, old: new if yes else old, self.selected, part, tree)

    def argument(self, name: str, x: Any, like: Any) -> Any:
        return super().argument(name, x, like) if self.hides_arguments else x


def _check_mask(who: str, name: str, value: Any) -> Any:
    if not is_function(value):  # optax accepts every value that Python counts as true or false
        value = jax.tree.map(lambda x: bool(x) if np.ndim(x) == 0 else x, value)
    return masks.check(who, name, value)


class _Masked(Wrapper, state=MaskedState):
    """Applies `inner` to the leaves that the mask selects; without a mask to all leaves, for a group of `partition`."""

    mask: Any = static(default=None, check=_check_mask)
    mask_compatible_extra_args: bool = flag(default=True, kw_only=True)

    def views(self, tree: Any) -> dict[str, View]:
        if self.mask is None:
            return {"inner": View()}
        mask = self.mask if not is_function(self.mask) else _check_mask("masked", "mask", self.mask(tree))
        masks.each("masked", mask, tree)  # raises unless the mask matches the tree
        hides = self.mask_compatible_extra_args or not self.inner.foreign
        return {"inner": _Some(mask.tree, hides_arguments=hides)}

    def shown_to(self, name: str, trees: tuple[Any, ...]) -> tuple[Any, ...]:
        del name
        return trees if self.mask is None else tuple(map(ByPath, trees))

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, MaskedState]:
        like = updates if params is None else params
        view = self.views(like)["inner"]
        seen = None if params is None else view.seen(params)
        given = self.given("inner", view, extra, like)
        new, inner_state = self.inner.update(view.seen(updates), state.inner_state, seen, **given)
        return view.restored(new, updates), MaskedState(inner_state)


_Masked.__name__ = "masked"  # in errors


class _Partition(gx.partition):
    """A `partition` whose groups see the whole tree, with a `MaskedNode` in place of the leaves of other groups."""

    def __init__(self, transforms: Any, param_labels: Any) -> None:
        super().__init__({label: _Masked(tx) for label, tx in transforms.items()}, param_labels)

    def _groups(self, name: str, tree: Any) -> dict[Any, View]:
        found = self._leaf_labels(name, tree)  # raises unless the labels match the tree
        labels = self.param_labels
        if isinstance(labels, gx.select.first):
            labels = jax.tree.unflatten(jax.tree.structure(tree), found)
        elif is_function(labels):
            labels = labels(tree)
        else:
            labels = labels.tree

        def selected(label: Any) -> Any:
            return jax.tree.map(lambda x: x == label, labels, is_leaf=self._is_label)

        return {key: _Some(selected(label)) for key, label in zip(self.children(), self.labels, strict=True)}

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, {label: tx.inner for label, tx in zip(self.labels, self.transforms, strict=True)}
        yield "param_labels", self.param_labels

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        inner = [tx.inner if isinstance(tx, _Masked) else tx for tx in parts.values()]
        return type(self)(dict(zip(self.labels, inner, strict=True)), self.param_labels)


_Partition.__name__ = "partition"


def in_optax_form(tx: Any) -> _Partition:
    """Returns a `partition` of gradtx with the states of optax."""
    return _Partition(dict(zip(tx.labels, tx.transforms, strict=True)), tx.param_labels)


@spelled
def masked(inner: Any, mask: Any, *, mask_compatible_extra_args: bool = False) -> Any:
    """Applies `inner` to the leaves that `mask` selects; the other leaves keep their updates.

    Args:
      inner: The transformation to wrap, such as `optax.adamw(1e-3)`.
      mask: Which leaves to transform: a tree of booleans like the parameters or like its upper part, a selector of
        gradtx, or a function of the parameters that returns a tree.
      mask_compatible_extra_args: Whether to mask extra arguments that are trees like the updates (default False).
        Matters only for an `inner` made of functions; transformations of gradtx always get masked extra arguments.

    Returns:
      A transformation. State: the inner state in a `MaskedState`, for the selected leaves only.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.masked(optax.trace(0.9), {"w": True, "b": False})
      >>> print(tx.init({"w": jnp.zeros(1), "b": jnp.zeros(1)}).inner_state.trace)
      {'b': MaskedNode(), 'w': Array([0.], dtype=float32)}
    """
    return _Masked(inner, mask, mask_compatible_extra_args=mask_compatible_extra_args)


@spelled
def partition(transforms: Any, param_labels: Any, *, mask_compatible_extra_args: bool = False) -> Any:
    """Applies to each leaf the transformation of its label.

    Args:
      transforms: A dict from label to transformation. Labels are strings or other hashable values.
      param_labels: A tree of labels like the parameters or like its upper part; a function of the parameters that
        returns one; or a list of gradtx's rules `(selector, label)`.
      mask_compatible_extra_args: Ignored: extra arguments that are trees like the updates are always split into groups.

    Returns:
      A transformation. State: the state of each group, for its leaves only.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.partition({"fast": optax.sgd(1.0), "still": optax.set_to_zero()}, {"w": "fast", "b": "still"})
      >>> g = {"w": jnp.ones(1), "b": jnp.ones(1)}
      >>> print(tx.update(g, tx.init(g))[0]["w"])
      [-1.]
    """
    del mask_compatible_extra_args
    return _Partition(transforms, param_labels)


@spelled
def freeze(mask: Any) -> Any:
    """Sets the updates of the leaves that `mask` selects to zero, and keeps the updates of the others.

    Args:
      mask: Which leaves to freeze: a tree of booleans like the parameters or like its upper part, or a function of the
        parameters that returns one.

    Returns:
      A transformation without state.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.freeze({"w": False, "b": True})
      >>> g = {"w": jnp.ones(1), "b": jnp.ones(1)}
      >>> print(tx.update(g, tx.init(g))[0]["b"])
      [0.]
    """
    return _Masked(gx.stateless(_zeros), mask)


@spelled
def selective_transform(optimizer: Any, *, freeze_mask: Any) -> Any:
    """Trains only the leaves that `freeze_mask` does not select; the other leaves are frozen and need no state.

    Args:
      optimizer: The transformation for the leaves to train, such as `optax.adamw(1e-3)`.
      freeze_mask: Which leaves to freeze: a tree of booleans like the parameters or like its upper part, or a function
        of the parameters that returns one.

    Returns:
      A transformation. State: the state of `optimizer`, for the leaves to train only.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.selective_transform(optax.sgd(1.0), freeze_mask={"w": False, "b": True})
      >>> g = {"w": jnp.ones(1), "b": jnp.ones(1)}
      >>> print(tx.update(g, tx.init(g))[0])
      {'b': Array([0.], dtype=float32), 'w': Array([-1.], dtype=float32)}
    """
    labels = gx.mask_labels(_check_mask("selective_transform", "freeze_mask", freeze_mask), "freeze", "train")
    return _Partition({"freeze": gx.stateless(_zeros), "train": optimizer}, labels)


def _zeros(updates: Any, params: Any) -> Any:
    del params
    return gx.tree.zeros_like(updates)


@spelled
def set_to_zero() -> Any:
    """Sets the updates to zero, so that the parameters do not change.

    Returns:
      A transformation without state.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.set_to_zero().init(1.0)
      EmptyState()
    """
    return gx.stateless(_zeros)


multi_transform = partition
