"""Averages per-example gradients: u = (g_1 + ... + g_n) / n for n examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.fits import UNKNOWN, Owner, check_class
from gradtx.core.state import EmptyState
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import static
from gradtx.types import Params, State, Updates

__all__ = ["average_per_element_updates"]


def check_axes(who: str, name: str, value: Any) -> tuple[int, ...]:
    """Returns the axes of the examples as a tuple; `value` must be an integer or distinct integers."""
    axes = (value,) if isinstance(value, int) else value
    good = isinstance(axes, Sequence) and all(isinstance(i, int) and not isinstance(i, bool) for i in axes)
    if not good or not axes or len(set(axes)) < len(axes):
        raise TypeError(f"{who}: {name} must be an axis or a sequence of axes, got {checks.shown(value)}.")
    return tuple(axes)


def examples(who: str, updates: Any, axes: tuple[int, ...]) -> int:
    """Returns the number of examples along `axes` of every leaf; raises a ValueError if it differs between leaves."""
    leaves = jax.tree.leaves(updates)
    checks.floating(who, "updates", updates, leaves)
    fits = all(-np.ndim(x) <= i < np.ndim(x) for x in leaves for i in axes)
    sizes = {math.prod(np.shape(x)[i] for i in axes) for x in leaves} if fits else set()
    if len(sizes) > 1 or not fits:
        raise ValueError(
            f"{who}: every leaf must have the same number of examples along per_elt_axis={axes}, got the shapes "
            f"{jax.tree.map(np.shape, updates)}. Compute per-example gradients, for example with "
            "jax.vmap(jax.grad(loss), in_axes=(None, 0))."
        )
    return sizes.pop() if sizes else 1


def mean_of(g: Any, axes: tuple[int, ...], *, keepdims: bool = False) -> Array:
    """Returns the mean of `g` over `axes`, in float32 or wider.

    The entries are divided before they are summed, so that the sum does not overflow.
    """
    wide = leaf.widen(jnp.asarray(g))
    return jnp.sum(wide / max(math.prod(wide.shape[i] for i in axes), 1), axis=axes, keepdims=keepdims)


class average_per_element_updates(GradientTransformation):
    """Averages per-example gradients over the axis of the examples.

    Put it first in a chain, or after transformations that process each example separately, such as clipping under
    `jax.vmap`. The incoming updates have an axis of examples; the outgoing updates have the shapes of the parameters.
    The sum is computed in float32 or wider. To average over several batches as well, wrap the rest of the chain in
    `gx.accumulate`.

    Args:
      per_elt_axis: The axis of the examples in every leaf, or a sequence of such axes (default 0).

    Returns:
      A transformation without state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.average_per_element_updates(), gx.sgd(0.5))
      >>> print(tx.update(jnp.array([[1.0, 2.0], [3.0, 6.0]]), tx.init(jnp.zeros(2)))[0])
      [-1. -2.]

    Raises:
      TypeError: `per_elt_axis` is not an integer or a sequence of distinct integers.
      ValueError: The leaves of the updates have different numbers of examples.
    """

    per_elt_axis: tuple[int, ...] = static(default=(0,), check=check_axes)

    @property
    def reshapes(self) -> bool:
        return True  # the outgoing updates do not have the axes of the examples

    def init(self, params: Params) -> EmptyState:
        del params
        return EmptyState()

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        del params
        self._check_extra(extra)
        self._check_fits(state, Owner(type(self).__name__, UNKNOWN, ""))
        examples(type(self).__name__, updates, self.per_elt_axis)

        return jax.tree.map(lambda g: leaf.narrow(mean_of(g, self.per_elt_axis), jnp.result_type(g)), updates), state

    def _check_fits(self, state: State, owner: Owner) -> None:
        check_class(owner, state, EmptyState)
