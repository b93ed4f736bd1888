"""Differential privacy: every example's gradient is clipped, the clipped ones are averaged, and noise is added.

    c_i = g_i * min(1, C / |g_i|)                 for every example i of B
    u   = (sum of c_i + n) / B,   n normal with standard deviation C * noise_multiplier

Abadi et al., 2016, "Deep Learning with Differential Privacy", algorithm 1. The gradients have the examples along
their first axis; the update does not. Clipping leaf by leaf is that of McMahan et al., 2018, "A General Approach
to Adding Differential Privacy to Iterative Training Procedures".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.slots import counter, per_tree
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.value import seed
from gradtx.types import Params, State, Updates

__all__ = [
    "DifferentiallyPrivateAggregateState",
    "differentially_private_aggregate",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
]


def _examples(who: str, grads: Any) -> int:
    """How many examples there are along the first axis of every leaf."""
    leaves = jax.tree.leaves(grads)
    checks.floating(who, "grads", grads, leaves)
    sizes = {np.shape(x)[:1] for x in leaves}
    if len(sizes) != 1 or sizes == {()}:
        shapes = jax.tree.map(np.shape, grads)
        raise ValueError(
            f"{who}: every leaf must have the examples along its first axis, got the shapes {shapes}. "
            "Take the gradients of single examples, as with jax.vmap(jax.grad(loss), in_axes=(None, 0))."
        )
    return sizes.pop()[0]


def per_example_global_norm_clip(grads: Any, l2_norm_clip: Any) -> tuple[Any, Array]:
    """The sum over examples of their gradients, each shrunk to a norm of at most `l2_norm_clip`.

    Returns the tree of sums, without the examples' axis, and how many gradients were shrunk.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> total, clipped = gx.per_example_global_norm_clip({"w": jnp.array([[3.0, 4.0], [0.5, 0.0]])}, 1.0)
    >>> print(total["w"].round(3), clipped)
    [1.1 0.8] 1

    Raises:
      ValueError: the leaves do not agree in their first axis.
    """
    _examples("per_example_global_norm_clip", grads)

    first, second = jax.vmap(lambda one: tree.shrinking(one, l2_norm_clip))(grads)

    def total(g: Array) -> Array:
        wide = leaf.widen(jnp.asarray(g))
        shape = (-1,) + (1,) * (wide.ndim - 1)
        return leaf.narrow(jnp.sum(wide * first.reshape(shape) * second.reshape(shape), axis=0), g.dtype)

    return jax.tree.map(total, grads), jnp.sum(first * second != 1)


def per_example_layer_norm_clip(grads: Any, global_l2_norm_clip: Any, uniform: bool = True) -> tuple[Any, Any]:
    """The sum over examples of their gradients, every leaf clipped by itself.

    The bounds of the leaves are such that the whole gradient's norm is at most `global_l2_norm_clip`: the same
    for every leaf (`uniform`), or in proportion to the root of its size. Returns the tree of sums and the tree of
    how many were shrunk.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> grads = {"w": jnp.array([[3.0, 4.0]]), "b": jnp.array([[0.1]])}
    >>> total, clipped = gx.per_example_layer_norm_clip(grads, 2.0**0.5)
    >>> print(total["w"].round(3), total["b"], clipped["w"])
    [0.6 0.8] [0.1] 1

    Raises:
      ValueError: the leaves do not agree in their first axis.
    """
    _examples("per_example_layer_norm_clip", grads)
    leaves, treedef = jax.tree.flatten(grads)
    whole = max(tree.size(grads), 1)
    shares = [1 / len(leaves) if uniform else g.size / whole for g in leaves]
    bounds = [global_l2_norm_clip * math.sqrt(share) for share in shares]
    sums, counts = zip(*map(per_example_global_norm_clip, leaves, bounds), strict=True)
    return treedef.unflatten(sums), treedef.unflatten(counts)


class DifferentiallyPrivateAggregateState(NamedTuple):
    """The steps taken, and the random key of the next."""

    rng_key: Array = per_tree(start="first_key")
    count: Array = counter()


class differentially_private_aggregate(Stateful, state=DifferentiallyPrivateAggregateState):
    """The private average of per-example gradients: the first link of a chain.

    `updates` have the examples along their first axis; params, where later links need them, do not. `l2_norm_clip` and
    `noise_multiplier` are not negative; `key` (default 0) is the seed, an integer.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.differentially_private_aggregate(1.0, noise_multiplier=0.0)
    >>> print(tx.update(jnp.array([[3.0, 4.0], [0.6, 0.8]]), tx.init(jnp.zeros(2)))[0].round(3))
    [0.6 0.8]

    Raises:
      ValueError: the leaves of the updates do not agree in their first axis.
    """

    l2_norm_clip: Hyper = hyper(ge=0)
    noise_multiplier: Hyper = hyper(ge=0)
    key: int = seed(default=0)

    def first_key(self, params: Any) -> Array:
        """The state's random key before the first step."""
        del params
        return jax.random.PRNGKey(self.key)

    @property
    def reshapes(self) -> bool:
        return True  # the updates lose the axis of the examples

    def _check_trees(self, updates: Any, params: Any) -> None:
        """The updates have an axis that neither params nor later updates have: nothing else is asked of them."""
        _examples(type(self).__name__, updates)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        n, now = _examples(type(self).__name__, updates), self.at(state.count)
        bound, deviation = now.l2_norm_clip, now.l2_norm_clip * now.noise_multiplier
        sums, treedef = jax.tree.flatten(per_example_global_norm_clip(updates, bound)[0])
        following, *keys = jax.random.split(state.rng_key, len(sums) + 1)

        def noisy(x: Array, key: Array) -> Array:
            wide = leaf.widen(x)
            noise = jax.random.normal(key, wide.shape, wide.dtype) * deviation
            return leaf.narrow((wide + noise) / n, x.dtype)

        average = treedef.unflatten(map(noisy, sums, keys))
        return average, DifferentiallyPrivateAggregateState(count=counted(state.count), rng_key=following)
