"""Sums of products over many arrays, and norms: one pass, no branch, right in every corner.

The square of a float32 may leave the range of float32 where the norm that it belongs to does not.

- On the CPU, float32 is summed in float64, which holds every such square.
- Elsewhere, and for float64 itself, three sums are taken in one pass: of x^2, (s x)^2 and (x / s)^2 for a power of two s.
  The one whose terms are in range is the result.

The second is the idea of Blue's accumulators (Anderson, 2017, "Algorithm 978: Safe Scaling in the Level 1 BLAS",
https://doi.org/10.1145/3061665), without a case distinction for every entry.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf

__all__ = ["dot", "real_parts", "scaled_norm"]

Pairs = Sequence[tuple[Array, Array]]


def real_parts(x: Array, y: Array) -> list[tuple[Array, Array]]:
    """Pairs of real arrays in float32 or wider whose products add up to the real part of conj(x) y."""
    x, y = leaf.widen(x), leaf.widen(y)
    if jnp.iscomplexobj(x) and jnp.iscomplexobj(y):
        return [(x.real, y.real), (x.imag, y.imag)]
    return [(x.real, y.real)]


@jax.custom_jvp
def scaled_norm(leaves: list[Array]) -> tuple[Array, Array]:
    """`(s, n)` with `s * n` the norm of all leaves as one vector; `n` is finite for every finite vector.

    `s` is a power of two, and 1 unless the norm is near the ends of the dtype's range. The derivative at 0 is 0.
    """
    pairs = [pair for x in leaves for pair in real_parts(x, x)]
    return _as_platforms_do(pairs, _norm_of_float32, _norm) if pairs else (jnp.ones(()), jnp.zeros(()))


@scaled_norm.defjvp
def _scaled_norm_jvp(primals: Any, tangents: Any) -> Any:
    (leaves,), (moved,) = primals, tangents
    scale, norm = scaled_norm(leaves)
    some = norm != 0
    per_norm = jnp.where(some, 1 / jnp.where(some, norm, 1), 0)
    slope = jnp.zeros_like(norm)
    for x, dx in (pair for both in zip(leaves, moved, strict=True) for pair in real_parts(*both)):
        unit = x * (per_norm / scale).astype(x.dtype)
        slope = slope + _sum(unit * (dx / scale.astype(dx.dtype))).astype(norm.dtype)
    return (scale, norm), (jnp.zeros_like(scale), slope)


@jax.custom_jvp
def dot(pairs: list[tuple[Array, Array]]) -> Array:
    """The sum of the products of real arrays; it saturates at the dtype's largest number.

    A result that is representable is found where partial sums are not.
    """
    return _as_platforms_do(pairs, _dot_of_float32, _dot) if pairs else jnp.zeros(())


@dot.defjvp
def _dot_jvp(primals: Any, tangents: Any) -> Any:
    (pairs,), (moved,) = primals, tangents
    out = dot(pairs)
    slopes = [_sum(dx * y + x * dy) for (x, y), (dx, dy) in zip(pairs, moved, strict=True)]
    return out, sum((slope.astype(out.dtype) for slope in slopes), jnp.zeros_like(out))


def _as_platforms_do(pairs: Pairs, of_float32: Callable[..., Any], general: Callable[..., Any]) -> Any:
    """The sums in the way that suits the platform that the program is compiled for.

    XLA's CPU backend vectorizes a sum of products, but not three of them at once. A TPU has no float64 of a wider range.
    """
    dtype = jnp.result_type(*(x for pair in pairs for x in pair))
    pairs = [(x.astype(dtype), y.astype(dtype)) for x, y in pairs]
    on_cpu = of_float32 if dtype == jnp.float32 else partial(general, _one_by_one)
    return lax.platform_dependent(pairs, cpu=on_cpu, default=partial(general, _at_once))


# --- float32 in float64


def _in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives `function` the sum in float64, which it may use whether the program has it enabled or not."""

    def with_sum(pairs: Pairs) -> Any:
        with jax.enable_x64(True):
            wide = [[lax.convert_element_type(x, np.float64) for x in pair] for pair in pairs]
            return function(functools.reduce(lax.add, [_sum(lax.mul(x, y)) for x, y in wide]))

    return with_sum


@_in_float64
def _norm_of_float32(total: Array) -> tuple[Array, Array]:
    norm, far = lax.sqrt(total), _far(jnp.float32)
    scale = jnp.where(norm > far, far, jnp.where(norm < 1 / far, 1 / far, 1.0))
    return lax.convert_element_type(scale, np.float32), lax.convert_element_type(norm / scale, np.float32)


@_in_float64
def _dot_of_float32(total: Array) -> Array:
    limit = float(jnp.finfo(jnp.float32).max)
    return lax.convert_element_type(jnp.clip(total, -limit, limit), np.float32)


# --- three sums


def _norm(add: Callable[..., list[Array]], pairs: Pairs) -> tuple[Array, Array]:
    dtype = pairs[0][0].dtype
    info, far = jnp.finfo(dtype), _far(dtype)
    plain, of_large, of_small = add(pairs, (1.0, 1 / far, far))
    # Above `low`, terms that underflowed cannot add up to a rounding error of the sum.
    low = float(info.tiny) / float(info.eps) * 2.0**33
    exact, tiny = (plain > low) & (plain < float(info.max)), plain < 1
    scale = jnp.where(exact, 1, jnp.where(tiny, 1 / far, far)).astype(dtype)
    total = jnp.where(exact, plain, jnp.where(tiny, of_small, of_large))
    return scale, jnp.sqrt(total)


def _dot(add: Callable[..., list[Array]], pairs: Pairs) -> Array:
    info = jnp.finfo(pairs[0][0].dtype)
    factor = 2.0 ** (-info.maxexp // 2 - 8)
    plain, small = add(pairs, (1.0, factor))
    # A sum that overflows on the way is taken of smaller terms, so that what cancels may cancel.
    exact = jnp.where(jnp.isfinite(plain), plain, small / factor / factor)
    return jnp.clip(exact, -float(info.max), float(info.max))


def _far(dtype: Any) -> float:
    """A power of two that takes squares of the largest numbers of a dtype into its range, and those of the smallest."""
    return 2.0 ** (5 * jnp.finfo(dtype).maxexp // 8)


def _at_once(pairs: Pairs, factors: Sequence[float]) -> list[Array]:
    """For each factor c the sum of (c x) (c y): one pass over the arrays."""

    def add(a: Any, b: Any) -> tuple[Array, ...]:
        return tuple(map(lax.add, a, b))

    zeros = tuple(np.zeros((), pairs[0][0].dtype) for _ in factors)
    found = [lax.reduce(_products(*pair, factors), zeros, add, tuple(range(pair[0].ndim))) for pair in pairs]
    return list(functools.reduce(add, found))


def _one_by_one(pairs: Pairs, factors: Sequence[float]) -> list[Array]:
    """The same in one pass for each factor."""
    found = [map(_sum, _products(*pair, factors)) for pair in pairs]
    return [functools.reduce(lax.add, sums) for sums in zip(*found, strict=True)]


def _products(x: Array, y: Array, factors: Sequence[float]) -> tuple[Array, ...]:
    # The barrier keeps the compiler from computing (c x) (c y) as c^2 (x y), which is out of range.
    numbers = lax.optimization_barrier([np.asarray(c, x.dtype) for c in factors])
    return tuple(x * y if c == 1 else (x * n) * (y * n) for c, n in zip(factors, numbers, strict=True))


def _sum(x: Array) -> Array:
    return lax.reduce_sum(x, axes=tuple(range(x.ndim)))
