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
    """Passes the incoming updates (the gradient) to `inner` as the extra argument `grad`.

    Wrap it around a chain that contains a transformation such as `mask_misaligned`, which compares the update with the
    gradient. You then need not call `update` with `grad=`.

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
    """Sets update entries that would increase the loss to zero, and scales up the remaining entries.

    `cautious` adds this transformation to an optimizer. An update entry is kept if its sign is opposite to the sign of
    the gradient. The kept entries of each leaf are divided by the fraction of entries that were kept (at least 0.001),
    so that the mean size of the update stays about the same. `update` needs the gradient as the extra argument `grad`;
    `with_grad_arg` passes it automatically.

    Returns:
      A transformation whose `update` needs `grad`. State: a step count.

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
    """Drops the entries of an optimizer's update that would increase the loss, judged by the current gradient.

    Use it with an optimizer that has momentum, because such an update may still follow old gradients. An update entry
    is kept if its sign is opposite to the sign of the gradient. The kept entries of each leaf are divided by the
    fraction of entries that were kept (at least 0.001), so that the mean size of the update stays about the same.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`. Its updates must descend, so it must contain the
        learning rate.

    Returns:
      A transformation. State: a step count, in addition to the inner state.

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
