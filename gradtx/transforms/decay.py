"""Weight decay: u = g + weight_decay * p.

Before a method's scaling this is the gradient of an L2 penalty; after it, it is decoupled decay
(Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization").
"""

from __future__ import annotations

from typing import Any

from jax import Array

from gradtx.core import mask as masks
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.value import static

__all__ = ["add_decayed_weights"]


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
    mask: Any = static(default=None, check=masks.check)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        return g + p * self.weight_decay, slots
