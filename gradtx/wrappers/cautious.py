"""Cautious optimizers: compare an update with the gradient from which it was computed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.composite import Wrapper
from gradtx.core.constructor import constructor
from gradtx.core.leafwise import Layerwise

__all__ = ["cautious", "mask_misaligned", "with_grad_arg"]

_LEAST_SHARE = 1e-3


class with_grad_arg(Wrapper):
    """Passes the incoming updates, the gradient, to the links of `inner` as the extra argument `grad`.

    Take it around a chain with links such as `mask_misaligned`, which compare the update with the gradient. Then
    `update` need not be called with `grad=`.

    Args:
      inner: The transformation to wrap, such as `gx.chain(gx.adamw(1e-3), gx.mask_misaligned())`.

    Returns:
      A transformation. State: the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.with_grad_arg(gx.chain(gx.scale(-2.0), gx.mask_misaligned()))
      >>> g = jnp.array([1.0, -1.0])
      >>> print(tx.update(g, tx.init(g))[0])
      [-2.  2.]
    """

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.inner_update(updates, state, params, {**extra, "grad": updates})


class mask_misaligned(Layerwise, needs=("grad",), by_leaf=("grad",)):
    """Sets entries of the update that point up the gradient to zero, and scales up the others.

    This is the link that `cautious` adds. The remaining entries of each leaf are divided by their share of all entries,
    at least 0.001, so that the mean size of the update stays about the same. `update` needs the extra argument `grad`,
    the gradient; inside of `with_grad_arg` it is passed by itself.

    Returns:
      A transformation whose `update` needs `grad`. It keeps no state except a step count.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.mask_misaligned()
      >>> g = jnp.array([1.0, -1.0])
      >>> print(tx.update(jnp.array([-1.0, -1.0]), tx.init(g), grad=g)[0])
      [-2. -0.]
    """

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, grad: Array) -> tuple[Array, Any]:
        descends = _opposed(g, grad).astype(g.real.dtype)
        share = jnp.mean(descends) if g.size else jnp.ones((), g.real.dtype)
        return g * (descends / jnp.maximum(share, _LEAST_SHARE)), slots


def _opposed(u: Array, g: Array) -> Array:
    """Whether Re(conj(g) u) < 0, computed from signs or angles so that no product underflows."""
    if not jnp.iscomplexobj(g):
        return leaf.sign(u) * leaf.sign(g) < 0
    g = g.astype(u.dtype)
    return (jnp.conj(jnp.sign(g)) * jnp.sign(u)).real < 0


@constructor
def cautious(inner: Any) -> with_grad_arg:
    """Drops the entries of an optimizer's update that point up the current gradient.

    Take it with an optimizer with momentum, whose update may still follow old gradients. In each leaf the remaining
    entries are divided by their share of all entries, at least 0.001, so that the mean size of the update stays about
    the same.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. It must descend, that is, contain the learning rate.

    Returns:
      A transformation. State: the inner state.

    References:
      Liang et al., 2024, "Cautious Optimizers: Improving Training with One Line of Code".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.cautious(gx.sgd(1.0, momentum=0.9))
      >>> state = tx.init(jnp.zeros(2))
      >>> for g in ([1.0, 1.0], [1.0, -0.1]):
      ...     updates, state = tx.update(jnp.array(g), state)
      ...     print(updates)
      [-1. -1.]
      [-3.8 -0. ]
    """
    return with_grad_arg(chain(inner, mask_misaligned()))
