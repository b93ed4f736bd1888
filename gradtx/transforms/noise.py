"""Gradient noise: u = g + n, with n normal of variance eta / t^gamma.

Neelakantan et al., 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks", equation 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.slots import counter, per_tree
from gradtx.core.value import seed

__all__ = ["AddNoiseState", "add_noise"]


class AddNoiseState(NamedTuple):
    """The steps taken, and the random key of the next."""

    count: Array = counter()
    rng_key: Array = per_tree(start="first_key")


class add_noise(Treewide, state=AddNoiseState, takes=("key",), by_leaf=("index",), loops=True):
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
    key: int = seed(default=0)

    def first_key(self, params: Any) -> Array:
        """The state's random key before the first step."""
        del params
        return jax.random.PRNGKey(self.key)

    def at_step(self, t: Array, numbers: Any, *, key: Any) -> tuple[Any, Any]:
        following, sample = jax.random.split(numbers.rng_key) if key is None else (numbers.rng_key, key)
        variance = self.eta / t.astype(float) ** self.gamma
        deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        return Shared(key=sample, deviation=deviation), numbers._replace(rng_key=following)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, index: Array) -> tuple[Array, Any]:
        """Every leaf has a key of its own, by its place in the tree."""
        key = jax.random.fold_in(shared.key, index)
        return g + jax.random.normal(key, g.shape, g.dtype) * shared.deviation, slots
