"""Gradient noise: u = g + n, with n normal of variance eta / t^gamma.

Neelakantan et al., 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", equation 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import EachLeaf, Treewide
from gradtx.core.state import Once
from gradtx.core.value import integer

__all__ = ["AddNoiseState", "add_noise"]


class AddNoiseState(NamedTuple):
    """The steps taken, and the random key of the next."""

    count: Array
    rng_key: Once


class add_noise(Treewide, state=AddNoiseState, takes=("key",)):
    """Adds noise that fades; `eta` (the variance at the first step) and `gamma` are not negative.

    `key` (default 0) is the seed, an integer, from which the state's random key is made. `update(..., key=k)` draws
    from `k` instead and leaves the state's key as it is.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.add_noise(eta=0.01, gamma=0.55)
    >>> g = jnp.zeros(10_000)
    >>> updates, state = tx.update(g, tx.init(g))
    >>> print(f"{jnp.std(updates):.2f}")
    0.10
    """

    eta: Hyper = hyper(ge=0)
    gamma: Hyper = hyper(ge=0)
    key: int = integer(default=0)

    may_loop = True

    def init_once(self, params: Any) -> tuple[Array]:
        return (jax.random.PRNGKey(self.key),)

    def measure(
        self, updates: Any, slots: Any, once: Any, params: Any, t: Array, *, key: Any
    ) -> tuple[Any, tuple[Array]]:
        following, sample = jax.random.split(once[0]) if key is None else (once[0], key)
        variance = self.eta / t.astype(float) ** self.gamma
        deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        keys = jax.random.split(sample, max(len(jax.tree.leaves(updates)), 1))
        return EachLeaf((keys[i], deviation) for i in range(len(jax.tree.leaves(updates)))), (following,)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        key, deviation = shared
        return g + jax.random.normal(key, g.shape, g.dtype) * deviation, slots
