"""Transforms some leaves and leaves the others unchanged, freezes leaves, or lowers their learning rates by depth."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax import Array

from gradtx import checks
from gradtx.core import mask as masks
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.mask import is_function
from gradtx.core.partition import partition
from gradtx.core.prefix import spread
from gradtx.core.transformation import GradientTransformation, as_transformation, identity
from gradtx.core.value import Value, per_leaf, static
from gradtx.transforms.scale import set_to_zero

__all__ = [
    "freeze",
    "layerwise_lr_decay",
    "mask_labels",
    "masked",
    "scale_by_depth",
    "selective_transform",
]


def _check_mask(who: str, name: str, value: Any) -> Any:
    if value is None:
        raise TypeError(
            f"{who}: {name} is None. Give a selector, a tree of True and False, or a function that returns such a tree."
        )
    return masks.check(who, name, value)


class mask_labels(Value):
    """Makes labels for `partition` from a mask: `inside` where the mask is True, `outside` where it is False.

    Call it with a tree to get the tree of labels.

    Args:
      mask: Which leaves get the label `inside`: a selector such as `gx.select.path("**/kernel")`, a tree of booleans
        like the parameters, or a function of the parameters that returns one.
      inside: Label of the leaves that the mask selects (default 'masked').
      outside: Label of all other leaves (default 'rest').

    Returns:
      A function from a tree to the tree of labels.

    Example:
      >>> import gradtx as gx
      >>> gx.mask_labels({"w": True, "b": False}, "decayed", "plain")({"w": 1.0, "b": 1.0})
      {'b': 'plain', 'w': 'decayed'}

    Raises:
      TypeError: `mask` is None, or neither a function nor a tree of booleans.
    """

    mask: Any = static(check=_check_mask)
    inside: str = static(default="masked")
    outside: str = static(default="rest")

    def __call__(self, tree: Any) -> Any:
        found = masks.each("masked", self.mask, tree)
        return jax.tree.unflatten(jax.tree.structure(tree), [self.inside if x else self.outside for x in found])


@constructor
def masked(inner: Any, mask: Any, rest: Any = "keep") -> partition:
    """Applies `inner` to the leaves that `mask` selects.

    By default, the updates of the other leaves are unchanged. The state of `inner` has no arrays for the other leaves.
    Use `selective_transform` to train some parameters and freeze the others, and `partition` for more than two groups.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It sees a dict from path to leaf with the selected
        leaves.
      mask: Which leaves to transform: a selector such as `gx.select.path("**/kernel")`, a tree of booleans like the
        parameters, or a function of the parameters that returns one.
      rest: What to do with the updates of the other leaves: 'keep' (default) to leave them unchanged, 'zero' to set
        them to zero, or a transformation to apply to them.

    Returns:
      A transformation. State: the inner state, for the selected leaves only.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.masked(gx.scale(2.0), gx.select.path("w"), rest="zero")
      >>> g = {"w": jnp.ones(2), "b": jnp.ones(2)}
      >>> updates, _ = tx.update(g, tx.init(g))
      >>> print(updates["w"], updates["b"])
      [2. 2.] [0. 0.]

    Raises:
      TypeError: `mask` is neither a function nor a tree of booleans, or `rest` is not a transformation.
      ValueError: A selector matches no leaf, the mask does not match the tree, or `rest` is a string other than 'keep'
      and 'zero'.
    """
    others: dict[Any, GradientTransformation] = {"keep": identity(), "zero": set_to_zero()}
    if isinstance(rest, str) and rest not in others:
        raise ValueError(f"masked: rest must be 'keep', 'zero' or a transformation, got {rest!r}.")
    other = others[rest] if isinstance(rest, str) else as_transformation("masked", rest)
    return partition({"masked": inner, "rest": other}, mask_labels(mask))


@constructor
def freeze(mask: Any) -> partition:
    """Sets the updates of the leaves that `mask` selects to zero, and keeps the updates of the others.

    Put it last in a chain. The transformations before it still keep state for the frozen leaves; `selective_transform`
    saves this memory.

    Args:
      mask: Which leaves to freeze: a selector such as `gx.select.path("embed/**")`, a tree of booleans like the
        parameters, or a function of the parameters that returns one.

    Returns:
      A transformation. It keeps no state except step counts.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(1.0), gx.freeze(gx.select.path("b")))
      >>> g = {"w": jnp.ones(2), "b": jnp.ones(2)}
      >>> updates, _ = tx.update(g, tx.init(g))
      >>> print(updates["w"], updates["b"])
      [-1. -1.] [0. 0.]
    """
    return masked(set_to_zero(), mask)


@constructor
def selective_transform(optimizer: Any, *, freeze_mask: Any) -> partition:
    """Trains only the leaves that `freeze_mask` does not select; the other leaves are frozen and need no state.

    Use it for fine-tuning with frozen layers.

    Args:
      optimizer: The transformation for the leaves to train, such as `gx.adamw(1e-3)`. It sees a dict from path to leaf
        with these leaves.
      freeze_mask: Which leaves to freeze: a selector such as `gx.select.path("embed/**")`, a tree of booleans like the
        parameters, or a function of the parameters that returns one.

    Returns:
      A transformation. State: the state of `optimizer`, for the leaves to train only.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.selective_transform(gx.adam(0.1), freeze_mask=gx.select.path("b"))
      >>> params = {"w": jnp.ones(2), "b": jnp.ones(200)}
      >>> gx.tree.size(tx.init(params))
      7
    """
    return partition({"freeze": set_to_zero(), "train": optimizer}, mask_labels(freeze_mask, "freeze", "train"))


def _check_depth(who: str, name: str, value: Any) -> Any:
    if is_function(value) or isinstance(value, FrozenTree):
        return value
    for path, x in jax.tree_util.tree_leaves_with_path(value):
        checks.integer(who, f"{name} at {checks.keystr(path)}", x, ge=0)
    return FrozenTree(value)


def _depths(who: str, depth_of: Any, tree: Any) -> list[np.ndarray]:
    """Returns the depth of each leaf, as an array so that leaves of different depths share one compiled function."""
    if not isinstance(depth_of, FrozenTree):
        found = [checks.integer(who, f"depth_of({path!r})", depth_of(path), ge=0) for path in checks.paths(tree)]
    else:
        found = spread(who, "depth_of", depth_of.tree, "params", tree, found_by_path=False)
    return [np.asarray(depth, np.int32) for depth in found]


class scale_by_depth(Elementwise):
    """Scales each leaf of the updates by decay^depth; `layerwise_lr_decay` appends it to an optimizer.

        u = decay^depth * g

    Args:
      depth_of: Depth of each leaf, an integer of at least 0: a function of the leaf's path, such as
        'encoder/layer_3/kernel', or a tree of depths like the parameters or like its upper part.
      decay: Factor for each further level of depth. In (0, 1].

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.scale_by_depth({"embed": 1, "head": 0}, 0.5)
      >>> g = {"embed": jnp.ones(1), "head": jnp.ones(1)}
      >>> print(tx.update(g, tx.init(g))[0]["embed"])
      [0.5]
    """

    depth_of: Any = per_leaf(_depths, dataclasses.MISSING, check=_check_depth)
    decay: Hyper = hyper(gt=0, le=1)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, depth_of: Array) -> tuple[Array, Any]:
        return g * (self.decay**depth_of), slots


@constructor
def layerwise_lr_decay(inner: Any, depth_of: Any, decay: HyperArg) -> chain:
    """Lowers the learning rate of deeper layers: multiplies the update of a leaf of depth d by decay^d.

    Use it to fine-tune a pretrained model. Count the depth from the output, so that the layers near the input move
    least.

        u = decay^depth * inner(g)

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      depth_of: Depth of each leaf, an integer of at least 0: a function of the leaf's path, such as
        'encoder/layer_3/kernel', or a tree of depths like the parameters or like its upper part.
      decay: Factor for each further level of depth, often 0.65 to 0.95. In (0, 1].

    Returns:
      A transformation. State: a step count, in addition to the inner state.

    References:
      Clark et al., 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", appendix B.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.layerwise_lr_decay(gx.sgd(1.0), {"embed": 2, "hidden": 1, "head": 0}, decay=0.5)
      >>> g = {"embed": jnp.ones(1), "hidden": jnp.ones(1), "head": jnp.ones(1)}
      >>> updates, _ = tx.update(g, tx.init(g))
      >>> print(updates["embed"], updates["hidden"], updates["head"])
      [-0.25] [-0.5] [-1.]
    """
    return chain(inner, scale_by_depth(depth_of, decay))
