"""Groups of leaves: some are transformed, others left, frozen, or given smaller rates."""

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
        raise TypeError(f"{who}: {name} is None; give a selector, a tree of True and False, or a function to one.")
    return masks.check(who, name, value)


class mask_labels(Value):
    """Labels from a mask: `inside` where it is True, `outside` where it is False.

    >>> import gradtx as gx
    >>> gx.mask_labels({"w": True, "b": False}, "decayed", "plain")({"w": 1.0, "b": 1.0})
    {'b': 'plain', 'w': 'decayed'}
    """

    mask: Any = static(check=_check_mask)
    inside: str = static(default="masked")
    outside: str = static(default="rest")

    def __call__(self, tree: Any) -> Any:
        found = masks.each("masked", self.mask, tree)
        return jax.tree.unflatten(jax.tree.structure(tree), [self.inside if x else self.outside for x in found])


@constructor
def masked(inner: Any, mask: Any, rest: Any = "keep") -> partition:
    """`inner` on the leaves that `mask` selects; the updates of the others are kept, zero, or go through `rest`.

    `mask` is a selector, a tree of booleans with the structure of the parameters or a prefix of it, or a function
    from them to such a tree. `rest` is 'keep' (the default), 'zero' or a transformation. The state of `inner` holds
    nothing for the others.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.masked(gx.scale(2.0), gx.select.path("w"), rest="zero")
    >>> g = {"w": jnp.ones(2), "b": jnp.ones(2)}
    >>> updates, _ = tx.update(g, tx.init(g))
    >>> print(updates["w"], updates["b"])
    [2. 2.] [0. 0.]

    Raises:
      TypeError: the mask is neither of these, or `rest` is not.
      ValueError: a selector selects no leaf, or the mask does not fit the tree.
    """
    others: dict[Any, GradientTransformation] = {"keep": identity(), "zero": set_to_zero()}
    if isinstance(rest, str) and rest not in others:
        raise ValueError(f"masked: rest must be 'keep', 'zero' or a transformation, got {rest!r}.")
    other = others[rest] if isinstance(rest, str) else as_transformation("masked", rest)
    return partition({"masked": inner, "rest": other}, mask_labels(mask))


@constructor
def freeze(mask: Any) -> partition:
    """Zero updates for the leaves that `mask` selects; those of the others are kept.

    As a link of a chain it comes last; `selective_transform` keeps no state for the frozen leaves.

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
    """`optimizer` on the leaves that `freeze_mask` does not select; the others are frozen and have no state.

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
    """The depth of each leaf, as an array: leaves of other depths are not compiled apart."""
    if not isinstance(depth_of, FrozenTree):
        found = [checks.integer(who, f"depth_of({path!r})", depth_of(path), ge=0) for path in checks.paths(tree)]
    else:
        found = spread(who, "depth_of", depth_of.tree, "params", tree, found_by_path=False)
    return [np.asarray(depth, np.int32) for depth in found]


class scale_by_depth(Elementwise):
    """u = decay^depth * g, with a depth for every leaf: the link of `layerwise_lr_decay`.

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
    """`inner` with rates that shrink with depth: the update of a leaf of depth d is multiplied by decay^d.

    `depth_of` is a function from a leaf's path, such as `encoder/layer_3/kernel`, to its depth, a whole number from 0
    up, or a tree of depths with the structure of the parameters or a prefix of it. For fine-tuning the depth is counted
    from the output, so that the layers near the input move least (Clark et al., 2020, "ELECTRA", appendix B).
    `decay` lies in (0, 1].

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.layerwise_lr_decay(gx.sgd(1.0), {"embed": 2, "hidden": 1, "head": 0}, decay=0.5)
    >>> g = {"embed": jnp.ones(1), "hidden": jnp.ones(1), "head": jnp.ones(1)}
    >>> updates, _ = tx.update(g, tx.init(g))
    >>> print(updates["embed"], updates["hidden"], updates["head"])
    [-0.25] [-0.5] [-1.]
    """
    return chain(inner, scale_by_depth(depth_of, decay))
