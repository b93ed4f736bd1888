"""Moving averages of moments. Where the updates have None (or are None as a whole), the result has None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import leaf
from gradtx.types import Updates

__all__ = ["bias_correction", "update_infinity_moment", "update_moment", "update_moment_per_elem_norm"]


def update_moment(updates: Updates, moments: Any, decay: ArrayLike, order: ArrayLike) -> Any:
    """Updates the moving average of a power of the gradient: decay * m + (1 - decay) * g^order.

    A power beyond the dtype's range counts as its largest number.

    Args:
      updates: The gradients g, a tree of arrays.
      moments: The averages m so far, a tree like the updates.
      decay: Decay rate of the average; closer to 1 averages over more steps. In [0, 1].
      order: The power: 1 for the first moment, 2 for the second.

    Returns:
      The new averages, a tree like `moments`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.update_moment(jnp.array([3.0]), jnp.array([1.0]), 0.5, 2))
    [5.]
    """
    return _averaged(updates, moments, decay, lambda g: _power(g, order))


def update_moment_per_elem_norm(updates: Updates, moments: Any, decay: ArrayLike, order: ArrayLike) -> Any:
    """Updates the moving average of a power of the modulus: decay * m + (1 - decay) * |g|^order.

    For complex gradients the average is real, unlike in `update_moment`.

    Args:
      updates: The gradients g, a tree of arrays.
      moments: The averages m so far, a tree like the updates.
      decay: Decay rate of the average; closer to 1 averages over more steps. In [0, 1].
      order: The power: 1 for the first moment, 2 for the second.

    Returns:
      The new averages, a tree like `moments`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.update_moment_per_elem_norm(jnp.array([3 + 4j]), jnp.array([5.0]), 0.5, 2))
    [15.]
    """

    def power(g: Array) -> Array:
        even = leaf.is_number(order) and order == 2
        return leaf.abs_sq(g) if even and jnp.iscomplexobj(g) else _power(g if even else jnp.abs(g), order)

    return _averaged(updates, moments, decay, power)


def update_infinity_moment(updates: Updates, moments: Any, decay: ArrayLike, eps: ArrayLike) -> Any:
    """Updates the decayed maximum of the modulus, as Adamax does: max(decay * m, |g| + eps).

    Args:
      updates: The gradients g, a tree of arrays.
      moments: The maxima m so far, a tree like the updates.
      decay: Decay rate of the maximum; closer to 1 remembers large gradients for longer. In [0, 1].
      eps: Added to the modulus, so that the result is a safe divisor.

    Returns:
      The new maxima, a tree like `moments`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.update_infinity_moment(jnp.array([-1.0, 0.1]), jnp.array([0.5, 1.0]), 0.5, 0.0))
    [1.  0.5]
    """

    def one(g: Any, m: Any) -> Array:
        size = jnp.abs(g)
        dtype = jnp.result_type(size, m, decay, eps)
        size, m = leaf.widen(size), leaf.widen(jnp.asarray(m))
        return _narrow(jnp.maximum(size + eps, m * decay), dtype)

    return _some(one, updates, moments)


def bias_correction(moment: Any, decay: ArrayLike, count: ArrayLike) -> Any:
    """Corrects a moving average for its start at zero: moment / (1 - decay^count).

    Args:
      moment: The moving average, a tree of arrays.
      decay: Decay rate of the average. In [0, 1].
      count: Number of steps in the average. At 0, before the first step, the result is the moment itself.

    Returns:
      A tree like `moment`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.bias_correction({"mu": jnp.array([0.5])}, 0.5, 1)["mu"])
    [1.]
    """
    count = jnp.asarray(count)
    weight = leaf.one_minus_power(decay if leaf.is_number(decay) else jnp.asarray(decay), jnp.maximum(count, 1))
    divisor = jnp.where((count > 0) & (weight > 0), weight, 1)

    def one(m: Any) -> Array:
        m = jnp.asarray(m)
        wide = leaf.widen(m)
        return _narrow(wide / divisor.astype(jnp.finfo(wide.dtype).dtype), m.dtype)

    return jax.tree.map(one, moment)


def _some(one: Callable[[Any, Any], Any], updates: Updates, moments: Any) -> Any:
    return jax.tree.map(lambda g, m: None if g is None else one(g, m), updates, moments, is_leaf=lambda x: x is None)


def _averaged(updates: Updates, moments: Any, decay: Any, power: Callable[[Array], Array]) -> Any:
    def one(g: Any, m: Any) -> Array:
        g, m = jnp.asarray(g), jnp.asarray(m)
        new = power(leaf.widen(g))
        own = jnp.result_type(jnp.real(g), m, decay) if jnp.isrealobj(new) else jnp.result_type(g, m, decay)
        return _narrow(leaf.moment(leaf.widen(m), new, decay), own)

    return _some(one, updates, moments)


def _narrow(x: Array, dtype: Any) -> Array:
    return leaf.narrow(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(dtype)


def _power(x: Array, order: Any) -> Array:
    """Returns x^order; finite entries have finite powers."""
    power = x**order
    if not jnp.issubdtype(power.dtype, jnp.floating):
        return power
    most = float(jnp.finfo(power.dtype).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(power, -most, most), power)
