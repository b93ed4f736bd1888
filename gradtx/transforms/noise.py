"""Gradient noise: u = g + n, where n is normal with variance eta / t^gamma.

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
    """The state of `add_noise`: the number of steps, and the random key of the next step."""

    count: Array = counter()
    rng_key: Array = per_tree(start="first_key")


class add_noise(Treewide, state=AddNoiseState, takes=("key",), by_leaf=("index",), loops=True):
    """Adds normally distributed noise with a decreasing variance to the updates.

    Use it to train very deep networks from poor initial parameters, or to simulate noisier gradients.

        u = g + n,     n ~ Normal(0, eta / t^gamma)     at step t = 1, 2, ...

    Args:
      eta: Variance of the noise at the first step. Not negative; the paper tunes it over 0.01, 0.3 and 1.
      gamma: Exponent of the decrease: at step t the variance is eta / t^gamma. Not negative; the paper uses 0.55, and 0
        keeps the variance constant.
      key: Seed of the random numbers, an integer; the same seed gives the same run. Default 0. To control the random
        numbers of a single step, pass `update(..., key=k)` with a JAX key `k`: that step then uses `k`, and the key in
        the state is unchanged.

    Returns:
      A transformation. State: a step count and a random key (12 bytes in total).

    References:
      Neelakantan et al., 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks".

    Example:
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
        """Returns the random key of the first step."""
        del params
        return jax.random.PRNGKey(self.key)

    def at_step(self, t: Array, numbers: Any, *, key: Any) -> tuple[Any, Any]:
        following, sample = jax.random.split(numbers.rng_key) if key is None else (numbers.rng_key, key)
        variance = self.eta / t.astype(float) ** self.gamma
        deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        return Shared(key=sample, deviation=deviation), numbers._replace(rng_key=following)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any, *, index: Array) -> tuple[Array, Any]:
        """Adds noise to one leaf; each leaf uses its own key, which depends on its position in the tree."""
        key = jax.random.fold_in(shared.key, index)
        return g + jax.random.normal(key, g.shape, g.dtype) * shared.deviation, slots
