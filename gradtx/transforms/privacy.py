"""Differentially private gradients: each example's gradient is clipped, the results are averaged, and noise is added.

    c_i = g_i * min(1, C / |g_i|)                 for every example i of B
    u   = (sum of c_i + n) / B,   n normal with standard deviation C * noise_multiplier

Abadi et al., 2016, "Deep Learning with Differential Privacy", algorithm 1. The gradients have the examples along their
first axis; the update does not have this axis. `per_example_layer_norm_clip` clips leaf by leaf, following McMahan et
al., 2018, "A General Approach to Adding Differential Privacy to Iterative Training Procedures".
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
    """Returns the number of examples, the length of the first axis of every leaf; raises a ValueError if it differs."""
    leaves = jax.tree.leaves(grads)
    checks.floating(who, "grads", grads, leaves)
    sizes = {np.shape(x)[:1] for x in leaves}
    if len(sizes) != 1 or sizes == {()}:
        shapes = jax.tree.map(np.shape, grads)
        raise ValueError(
            f"{who}: every leaf must have the examples along its first axis, got the shapes {shapes}. "
            "Compute per-example gradients, for example with jax.vmap(jax.grad(loss), in_axes=(None, 0))."
        )
    return sizes.pop()[0]


def per_example_global_norm_clip(grads: Any, l2_norm_clip: Any) -> tuple[Any, Array]:
    """Clips the gradient of each example to a global norm, and sums the clipped gradients over the examples.

    Args:
      grads: Tree of per-example gradients, with the examples along the first axis of every leaf, as
        `jax.vmap(jax.grad(loss), in_axes=(None, 0))` returns them.
      l2_norm_clip: Largest Euclidean norm of one example's gradient, over all leaves. Not negative.

    Returns:
      The tree of sums, without the axis of examples, and the number of gradients that were clipped.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> total, clipped = gx.per_example_global_norm_clip({"w": jnp.array([[3.0, 4.0], [0.5, 0.0]])}, 1.0)
      >>> print(total["w"].round(3), clipped)
      [1.1 0.8] 1

    Raises:
      ValueError: The leaves have different numbers of examples.
    """
    _examples("per_example_global_norm_clip", grads)

    first, second = jax.vmap(lambda one: tree.shrinking(one, l2_norm_clip))(grads)

    def total(g: Array) -> Array:
        wide = leaf.widen(jnp.asarray(g))
        shape = (-1,) + (1,) * (wide.ndim - 1)
        return leaf.narrow(jnp.sum(wide * first.reshape(shape) * second.reshape(shape), axis=0), g.dtype)

    return jax.tree.map(total, grads), jnp.sum(first * second != 1)


def per_example_layer_norm_clip(grads: Any, global_l2_norm_clip: Any, uniform: bool = True) -> tuple[Any, Any]:
    """Clips the gradient of each example leaf by leaf, and sums the clipped gradients over the examples.

    The bounds of the leaves are chosen so that the norm of an example's whole gradient is at most
    `global_l2_norm_clip`. Use it instead of `per_example_global_norm_clip` if some leaves have much larger gradients
    than others.

    Args:
      grads: Tree of per-example gradients, with the examples along the first axis of every leaf.
      global_l2_norm_clip: Largest Euclidean norm of one example's gradient, over all leaves. Not negative.
      uniform: True (default) uses the same bound for every leaf; False makes each bound proportional to the square root
        of the number of entries of the leaf.

    Returns:
      The tree of sums, without the axis of examples, and a tree with the number of gradients clipped in each leaf.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> grads = {"w": jnp.array([[3.0, 4.0]]), "b": jnp.array([[0.1]])}
      >>> total, clipped = gx.per_example_layer_norm_clip(grads, 2.0**0.5)
      >>> print(total["w"].round(3), total["b"], clipped["w"])
      [0.6 0.8] [0.1] 1

    Raises:
      ValueError: The leaves have different numbers of examples.
    """
    _examples("per_example_layer_norm_clip", grads)
    leaves, treedef = jax.tree.flatten(grads)
    whole = max(tree.size(grads), 1)
    shares = [1 / len(leaves) if uniform else g.size / whole for g in leaves]
    bounds = [global_l2_norm_clip * math.sqrt(share) for share in shares]
    sums, counts = zip(*map(per_example_global_norm_clip, leaves, bounds), strict=True)
    return treedef.unflatten(sums), treedef.unflatten(counts)


class DifferentiallyPrivateAggregateState(NamedTuple):
    """The state of `differentially_private_aggregate`: the number of steps, and the random key of the next step."""

    rng_key: Array = per_tree(start="first_key")
    count: Array = counter()


class differentially_private_aggregate(Stateful, state=DifferentiallyPrivateAggregateState):
    """Clips per-example gradients, averages the results and adds noise: the gradient of DP-SGD.

    Put it first in a chain: `chain(differentially_private_aggregate(1.0, 1.1), sgd(0.1))`. The incoming updates have
    the examples along the first axis of every leaf; the outgoing updates have the shapes of the parameters. The privacy
    loss of a run depends on `noise_multiplier`, the batch size, the size of the data set and the number of steps;
    compute it with a privacy accountant.

        c_i = g_i * min(1, l2_norm_clip / |g_i|),     u = (sum_i c_i + n) / batch size

    Args:
      l2_norm_clip: Largest Euclidean norm of one example's gradient, over all leaves. Not negative.
      noise_multiplier: Standard deviation of the noise n, as a multiple of `l2_norm_clip`. Not negative; 0 adds no
        noise and gives no privacy.
      key: Seed of the random numbers, an integer; the same seed gives the same run. Keep it secret, because it
        determines the noise. Default 0.

    Returns:
      A transformation. State: a step count and a random key (12 bytes in total).

    References:
      Abadi et al., 2016, "Deep Learning with Differential Privacy", algorithm 1.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.differentially_private_aggregate(1.0, noise_multiplier=0.0)
      >>> print(tx.update(jnp.array([[3.0, 4.0], [0.6, 0.8]]), tx.init(jnp.zeros(2)))[0].round(3))
      [0.6 0.8]

    Raises:
      ValueError: The leaves of the updates have different numbers of examples.
    """

    l2_norm_clip: Hyper = hyper(ge=0)
    noise_multiplier: Hyper = hyper(ge=0)
    key: int = seed(default=0)

    def first_key(self, params: Any) -> Array:
        """Returns the random key of the first step."""
        del params
        return jax.random.PRNGKey(self.key)

    @property
    def reshapes(self) -> bool:
        return True  # the outgoing updates do not have the axis of the examples

    def _check_trees(self, updates: Any, params: Any) -> None:
        """Checks only the axis of the examples, which neither the parameters nor the outgoing updates have."""
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
