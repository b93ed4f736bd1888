"""Numbers that stay in range: norms with a lower bound, counters that do not overflow, scaled gradients.

    safe_norm                max(|x|, min_norm)
    safe_root_mean_squares   max(sqrt(mean |x|^2), min_rms)

If the bound is the result, its derivative with respect to x is 0. So values and derivatives are finite also for x =
0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree

__all__ = ["safe_increment", "safe_norm", "safe_root_mean_squares", "scale_gradient"]


def safe_norm(x: Any, min_norm: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:  # noqa: A002
    """Computes the norm of an array, or `min_norm` if that is larger, with finite derivatives.

    Use it to divide by a norm that may be 0. Arithmetic is in float32 or wider; squares neither overflow nor
    underflow.

    Args:
      x: A real or complex floating-point array.
      min_norm: Lower bound on the result, a number or an array that broadcasts to it.
      ord: Which norm, as in `jnp.linalg.norm`. None (default) for the Euclidean norm, of matrices the Frobenius
        norm.
      axis: The axis of vectors, or the two axes of matrices, whose norms to take. None (default) for all of `x`.
      keepdims: Whether to keep these axes with length 1. False by default.

    Returns:
      Norms in the real dtype of `x`.

    Raises:
      TypeError: `x` is not a floating-point array.
      ValueError: `ord` and `axis` do not fit `x`.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> print(gx.safe_norm(jnp.array([3.0, 4.0]), 1e-6), jax.grad(gx.safe_norm)(jnp.zeros(2), 1e-6))
    5.0 [0. 0.]
    """
    checks.floating("safe_norm", "x", x, [x])
    x = jnp.asarray(x)
    dtype = jnp.finfo(x.dtype).dtype
    wide = leaf.widen(x)
    over = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if ord is None or (ord == "fro" and len(over) == 2) or (ord == 2 and len(over) == 1):
        norm = tree.norm(wide, axes=tuple(i % x.ndim for i in over)) if x.ndim else jnp.abs(wide)
    else:
        norm = _other_norm(wide, min_norm, ord, axis)
    norm = norm if keepdims else jnp.squeeze(norm, over)
    return leaf.narrow(_floored(norm, min_norm), dtype)


def _other_norm(x: Array, min_norm: Any, kind: Any, axis: Any) -> Array:
    """Computes a norm of another kind, with its axes kept; if it is below the bound, derivatives come from a safe
    array.
    """
    x, exponent = (x, jnp.zeros((), int)) if kind == 0 else leaf.in_units(x)
    norm = leaf.shifted(jnp.linalg.norm(x, kind, axis, keepdims=True), exponent)
    usable = jnp.where(norm > min_norm, x, jnp.ones_like(x))
    found = leaf.shifted(jnp.linalg.norm(usable, kind, axis, keepdims=True), exponent)
    return jnp.where(norm > min_norm, found, norm)


def _floored(norm: Array, least: Any) -> Array:
    return jnp.where(norm <= least, jnp.asarray(least, norm.dtype), norm)


def safe_root_mean_squares(x: Any, min_rms: Any) -> Array:
    """Computes the root mean square of an array, or `min_rms` if that is larger, with finite derivatives.

    Arithmetic is in float32 or wider; squares neither overflow nor underflow. The result is `min_rms` for an array
    without entries.

    Args:
      x: A real or complex floating-point array.
      min_rms: Lower bound on the result, a number.

    Returns:
      A scalar in the real dtype of `x`.

    Raises:
      TypeError: `x` is not a floating-point array.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.safe_root_mean_squares(jnp.array([3e30, 3e30]), 1e-6))
    3e+30
    """
    checks.floating("safe_root_mean_squares", "x", x, [x])
    x = jnp.asarray(x)
    scale, size = tree.scaled(x)
    finite, rms = jnp.isfinite(size), scale * (size / max(x.size, 1) ** 0.5)
    rms = jnp.where(finite, leaf.saturated(rms), rms)  # up to rounding it is at most the largest entry
    return leaf.narrow(_floored(rms, min_rms), jnp.finfo(x.dtype).dtype)


def safe_increment(count: Any) -> Array:
    """Adds 1 to a counter, which stays at its dtype's largest number instead of overflowing.

    Args:
      count: The counter, an array of integers or floats.

    Returns:
      An array like `count`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.safe_increment(jnp.int8(5)), gx.safe_increment(jnp.int8(127)))
    6 127

    Raises:
      TypeError: the counter does not hold integers or floats.
    """
    count = jnp.asarray(count)
    kind = checks.kind(count.dtype)
    if kind not in ("integer", "real"):
        raise TypeError(f"safe_increment: count must hold integers or floats, got {checks.shown(count)}.")
    most = (jnp.iinfo if kind == "integer" else jnp.finfo)(count.dtype).max
    one = count.dtype.type(1)
    return jnp.minimum(count, count.dtype.type(most) - one) + one


def scale_gradient(inputs: Any, scale: Any) -> Any:
    """Returns its input unchanged, but multiplies its gradient by `scale`.

    Use it to let one part of a model learn more slowly, to stop a gradient partially, or, with a negative number,
    to reverse it for adversarial training. Forward and reverse derivatives of every order are scaled.

    Args:
      inputs: A tree of arrays; leaves that are not floating-point arrays have no derivative.
      scale: The factor, a number or a scalar array. It may be traced, and has no derivative itself.

    Raises:
      TypeError: `scale` is not a number.

    >>> import jax, gradtx as gx
    >>> print(jax.grad(lambda x: gx.scale_gradient(x, -0.5) ** 2)(3.0))
    -3.0
    """
    checks.scalar("scale_gradient", "scale", scale)
    scale = jax.lax.stop_gradient(scale)

    def scaled(x: Any) -> Any:
        return _scaled(jnp.asarray(x), scale) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x

    return jax.tree.map(scaled, inputs)


@jax.custom_jvp
def _scaled(x: Array, scale: Any) -> Array:
    del scale
    return x


@_scaled.defjvp
def _scaled_jvp(primals: tuple[Array, Any], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    (x, scale), (moved, _) = primals, tangents
    wide = leaf.widen(moved)  # the result is linear in it, which the reverse derivative needs
    return _scaled(x, scale), (wide * jnp.asarray(scale, jnp.finfo(wide.dtype).dtype)).astype(moved.dtype)
