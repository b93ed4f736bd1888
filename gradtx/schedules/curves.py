"""Functions that several schedules share: decay curves from 1 to 0, warm-up and interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.schedules.clock import share, since

__all__ = ["SHAPES", "half_cosine", "interpolated", "warmed_up"]


def half_cosine(left: Array) -> Array:
    """Returns (1 + cos(pi (1 - left))) / 2, computed as sin^2(pi left / 2) to avoid cancellation if `left` is small."""
    return jnp.square(jnp.sin(jnp.pi / 2 * left))


def _linear(left: Array) -> Array:
    return left


def _one_minus_sqrt(left: Array) -> Array:
    """Returns 1 - sqrt(1 - left), computed without cancellation if `left` is small."""
    return left / (1 + leaf.root(jnp.maximum(1 - left, 0)))


SHAPES: dict[str, Callable[[Array], Array]] = {
    "linear": _linear,
    "cosine": half_cosine,
    "1-sqrt": _one_minus_sqrt,
}


def warmed_up(count: Any, init_value: Any, peak_value: Any, steps: Any, after: Any) -> Array:
    """Rises linearly from `init_value` at step 0 to `peak_value` at `steps` (which may be 0), then returns `after`."""
    left = -since(count, steps)
    return jnp.where(left > 0, (init_value - peak_value) * share(left, steps) + peak_value, after)


def interpolated(count: Any, boundaries: Sequence[Any], values: Sequence[Any], shape: str) -> Array:
    """Interpolates from `values[0]` at step 0 to `values[i + 1]` at step `boundaries[i]`, then stays at the last value.

    `shape` is the name of the curve between two points, a key of `SHAPES`.
    """
    result = jnp.full(jnp.shape(count), values[0], jnp.result_type(float))
    before = 0
    for boundary, first, last in zip(boundaries, values[:-1], values[1:], strict=True):
        left = -since(count, boundary)
        fraction = share(left, boundary - before)
        piece = jnp.where(left > 0, (first - last) * SHAPES[shape](fraction) + last, last)
        result = jnp.where(since(count, before) >= 0, piece, result)
        before = boundary
    return result
