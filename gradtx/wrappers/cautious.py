"""Links that compare an update with the gradient that it was made of."""

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
    """`inner`, whose links get the updates that come in, the gradient, as the extra argument `grad`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.with_grad_arg(gx.chain(gx.scale(-2.0), gx.mask_misaligned()))
    >>> g = jnp.array([1.0, -1.0])
    >>> print(tx.update(g, tx.init(g))[0])
    [-2.  2.]
    """

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.inner_update(updates, state, params, {**extra, "grad": updates})


class mask_misaligned(Layerwise, needs=("grad",), by_leaf=("grad",)):
    """The link of `cautious`: the entries of the update that descend, longer by as much as there are fewer of them.

    `update` needs `grad`, the gradient; `with_grad_arg` gives it.

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
    """Whether Re(conj(g) u) < 0, by signs or by angles, so that no product underflows."""
    if not jnp.iscomplexobj(g):
        return leaf.sign(u) * leaf.sign(g) < 0
    g = g.astype(u.dtype)
    return (jnp.conj(jnp.sign(g)) * jnp.sign(u)).real < 0


@constructor
def cautious(inner: Any) -> with_grad_arg:
    """`inner`, without the entries of its update that go up the gradient.

    In each leaf the others are scaled by the inverse of the share that they are, at most by 1000 (Liang et al., 2024,
    "Cautious Optimizers: Improving Training with One Line of Code"). `inner` descends, as `adamw(1e-3)` does.

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
