"""Converts arrays of other libraries' states to the shape, dtype and sharding that gradtx needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from gradtx.core.hyper import Schedule

__all__ = ["fitted", "held_weights"]


def held_weights(tx: Any, names: Iterable[str], count: int) -> dict[str, Any]:
    """Returns the bias-correction divisor of each moving average of `tx` whose decay rate follows a schedule.

    After `count` steps, the divisor is 1 minus the product of the decay rates of these steps.
    """
    steps, found = jnp.arange(count), {}
    for name in names:
        b = getattr(tx, name)
        found[name] = 1 - (jnp.prod(jnp.asarray(jax.vmap(b)(steps))) if isinstance(b, Schedule) else b**count)
    return found


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def fitted(where: str, x: Any, old: Any, advice: str) -> Any:
    """Returns a copy of `x` with the shape, the dtype, the kind of random key and the sharding of `old`."""
    if _is_key(x):
        x = jax.random.key_data(x)
    if _is_key(old):
        data = jax.random.key_data(old)
        return jax.random.wrap_key_data(fitted(where, x, data, advice), impl=jax.random.key_impl(old))
    shape, dtype = np.shape(old), jnp.result_type(old)
    found_shape, found = np.shape(x), jnp.result_type(x)
    if _without_ones(found_shape) != _without_ones(shape):
        raise ValueError(f"{where} has the shape {found_shape}, but these parameters need {shape}. {advice}")
    if _family(found) != _family(dtype):
        raise ValueError(f"{where} has the dtype {found.name}, but these parameters need {dtype.name}. {advice}")
    new = jnp.array(x, dtype, copy=True).reshape(shape)
    if isinstance(old, jax.Array) and not isinstance(old.sharding, SingleDeviceSharding):
        new = jax.device_put(new, old.sharding)
    return np.asarray(new) if isinstance(old, np.ndarray) else new


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _family(dtype: Any) -> str:
    families = {"b": "boolean", "i": "integer", "u": "integer", "c": "complex"}
    return families.get(np.dtype(dtype).kind, "floating")
