"""Weight decay: u = g + weight_decay * p.

Before a method's scaling this is the gradient of an L2 penalty; after it, it is decoupled decay
(Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from gradtx import checks
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.value import FrozenTree, static

__all__ = ["add_decayed_weights"]


def _check_mask(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, FrozenTree):
        return value
    if jax.tree_util.all_leaves([value]) and callable(value):
        return value
    for path, x in jax.tree_util.tree_leaves_with_path(value):
        if not isinstance(x, (bool, np.bool_)):
            raise TypeError(
                f"{who}: {name} must be a function of the parameters, or a tree of True and False; "
                f"at {checks.keystr(path)} it is {checks.shown(x)}."
            )
    return FrozenTree(value)


class add_decayed_weights(Elementwise, needs=("params",)):
    """Adds `weight_decay` times the parameters, to the leaves that `mask` selects.

    `weight_decay` (default 0) is not negative. `mask` is None for all leaves, a tree of booleans
    with the structure of the parameters or a prefix of it, or a function from the parameters to
    such a tree.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> grads = {"w": jnp.zeros(1), "b": jnp.zeros(1)}
    >>> tx = gx.add_decayed_weights(0.1, mask={"w": True, "b": False})
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> print(updates["w"], updates["b"])
    [0.1] [0.]

    Raises:
      ValueError: `update` is called without params, or the mask is no prefix of their tree.
      TypeError: a leaf of the mask is neither True nor False.
    """

    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mask: Any = static(default=None, check=_check_mask)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g + p * self.weight_decay, slots

    def where(self, params: Any) -> Sequence[bool] | None:
        if self.mask is None:
            return None
        mask = self.mask
        if not isinstance(mask, FrozenTree):
            mask = _check_mask("add_decayed_weights", "what mask(params) returned", mask(params))
        try:
            full = jax.tree.map(lambda m, part: jax.tree.map(lambda _: bool(m), part), mask.tree, params)
        except ValueError:
            raise checks.tree_mismatch("add_decayed_weights", "mask", mask.tree, "params", params) from None
        return jax.tree.leaves(full)
