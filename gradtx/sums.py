"""Sums of products over many arrays, and norms: one pass, no branch, correct for extreme values.

The square of a float32 may overflow or underflow although the norm does not.

- On the CPU, float32 is summed in float64, which can represent every such square.
- Elsewhere, and for float64 itself, three sums are computed in one pass: of x^2, (s x)^2 and (x / s)^2 for a power of
  two s. The result is the one whose terms are in range.

The second follows the idea of Blue's accumulators (Anderson, 2017, "Algorithm 978: Safe Scaling in the Level 1
BLAS", https://doi.org/10.1145/3061665), without a case distinction for every entry. On the CPU it would take three
passes, because XLA vectorizes one sum there, but not three at once; and a TPU has no float64 with a wider range.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf, mesh

__all__ = ["dot", "exact_total", "norm", "real_parts", "scaled_norm", "shrinking", "total"]

Axes = tuple[int, ...] | None
"""The axes to sum over; None for all. If it is not None, there is a single array or pair."""


def real_parts(x: Array, y: Array) -> list[tuple[Array, Array]]:
    """Returns pairs of real arrays in float32 or wider, whose products add up to the real part of conj(x) y."""
    x, y = (leaf.widen(a) if jnp.issubdtype(a.dtype, jnp.inexact) else a.astype(float) for a in (x, y))
    if jnp.iscomplexobj(x) and jnp.iscomplexobj(y):
        return [(x.real, y.real), (x.imag, y.imag)]
    return [(x.real, y.real)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def norm(leaves: list[Array], axes: Axes = None) -> Array:
    """Computes the norm of all leaves as one vector; with `axes`, the norm over these axes of a single leaf.

    It is infinite if it cannot be represented. The derivative at 0 is 0.
    """
    pairs, dtype = _promoted([pair for x in leaves for pair in real_parts(x, x)])
    if pairs and _wider(dtype):
        with jax.enable_x64(True):
            return lax.convert_element_type(lax.sqrt(_wide_sum(pairs, axes)), dtype)
    return _unscaled(leaves, axes)


@norm.defjvp
def _norm_jvp(axes: Axes, primals: Any, tangents: Any) -> Any:
    return jax.jvp(functools.partial(_unscaled, axes=axes), primals, tangents)


def _unscaled(leaves: list[Array], axes: Axes) -> Array:
    scale, size = scaled_norm(leaves, axes)
    return scale * size


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def scaled_norm(leaves: list[Array], axes: Axes = None) -> tuple[Array, Array]:
    """Returns `(s, n)` with `s * n` the norm, where `n` and 1 / n^2 are finite for finite vectors that are not zero.

    `s` is a power of two; it is 1 unless the norm is below 1e-10 or above 1e13 (1e-141 and 1e154 in float64). The
    derivative at 0 is 0.
    """
    pairs, dtype = _promoted([pair for x in leaves for pair in real_parts(x, x)])
    if not pairs:
        return jnp.ones(()), jnp.zeros(())
    far = 2.0 ** (11 * jnp.finfo(dtype).maxexp // 16)  # brings the smallest and the largest squares into range
    if _wider(dtype):
        with jax.enable_x64(True):
            size, root = lax.sqrt(_wide_sum(pairs, axes)), math.sqrt(far)
            scale = _pick(size > root, far, _pick((size < 1 / root) & (size > 0), 1 / far, lax.full_like(size, 1)))
            return lax.convert_element_type(scale, dtype), lax.convert_element_type(size / scale, dtype)
    plain, of_large, of_small = _sums(pairs, axes, (1.0, 1 / far, far))
    # Above `low`, terms that underflowed cannot add up to a rounding error of the sum.
    low = float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps) * 2.0**33
    exact, tiny = (plain > low) & (plain < float(jnp.finfo(dtype).max)), plain < 1
    size = lax.sqrt(_pick(exact, plain, _pick(tiny, of_small, of_large)))
    return _pick(exact | (size == 0), 1, _pick(tiny, 1 / far, lax.full_like(plain, far))), size


@scaled_norm.defjvp
def _scaled_norm_jvp(axes: Axes, primals: Any, tangents: Any) -> Any:
    (leaves,), (moved,) = primals, tangents
    scale, norm = scaled_norm(leaves, axes)
    some, shrink = norm != 0, lax.stop_gradient(1 / scale)
    per_norm = jnp.where(some, 1 / jnp.where(some, norm, 1), 0)
    slopes = [jnp.zeros_like(norm)]
    for x, dx in (pair for both in zip(leaves, moved, strict=True) for pair in real_parts(*both)):
        unit = x * _along(shrink, x, axes) * _along(per_norm, x, axes)
        slopes.append(_sum(unit * (dx * _along(shrink, x, axes)), axes).astype(norm.dtype))
    slope = _added(slopes, axes)
    return (scale, norm), (jnp.zeros_like(scale), slope)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def shrinking(leaves: list[Array], radius: Any, axes: Axes = None) -> tuple[Array, Array]:
    """Returns two factors whose product is min(1, radius / norm), which a single number may not be able to represent.

    The product is NaN if a leaf has a NaN.
    """
    pairs, dtype = _promoted([pair for x in leaves for pair in real_parts(x, x)])
    if not pairs or not _wider(dtype):
        return _shrinking(leaves, radius, axes)
    with jax.enable_x64(True):
        size, radius = lax.sqrt(_wide_sum(pairs, axes)), jnp.asarray(radius, "float64")
        short = size <= radius
        factor = _pick(short, 1, radius / _pick(short, 1, size))
        far = 2.0 ** (15 * jnp.finfo(dtype).maxexp // 16)  # 1 / far is nearly the smallest number
        tiny = factor < 1 / far
        first, second = _pick(tiny, 1 / far, factor), _pick(tiny, factor * far, 1)
        return lax.convert_element_type(first, dtype), lax.convert_element_type(second, dtype)


@shrinking.defjvp
def _shrinking_jvp(axes: Axes, primals: Any, tangents: Any) -> Any:
    return jax.jvp(functools.partial(_shrinking, axes=axes), primals, tangents)


def _shrinking(leaves: list[Array], radius: Any, axes: Axes) -> tuple[Array, Array]:
    scale, size = scaled_norm(leaves, axes)
    short = size <= radius / scale
    spare = jnp.where(scale > 1, 2.0 ** (jnp.finfo(size.dtype).maxexp // 4), 1)  # so that neither factor underflows
    return jnp.where(short, 1, 1 / (scale * spare)), jnp.where(short, 1, radius / jnp.where(short, 1, size / spare))


@jax.custom_jvp
def dot(pairs: list[tuple[Array, Array]]) -> Array:
    """Sums the products of real arrays; the result saturates at the dtype's largest number.

    It is accurate whenever the result can be represented, even if partial sums overflow.
    """
    if not pairs:
        return jnp.zeros(())
    pairs, dtype = _promoted(pairs)
    limit = float(jnp.finfo(dtype).max)
    if _wider(dtype):
        with jax.enable_x64(True):
            total = _wide_sum(pairs, None)
            return lax.convert_element_type(lax.clamp(np.float64(-limit), total, np.float64(limit)), dtype)
    factor = 2.0 ** (-jnp.finfo(dtype).maxexp // 2 - 8)
    plain, small = _sums(pairs, None, (1.0, factor))
    # If a partial sum overflows, smaller terms are summed instead, so that large terms may cancel.
    exact = _pick(lax.is_finite(plain), plain, small / factor / factor)
    return lax.clamp(dtype.type(-limit), exact, dtype.type(limit))


@dot.defjvp
def _dot_jvp(primals: Any, tangents: Any) -> Any:
    (pairs,), (moved,) = primals, tangents
    out = dot(pairs)
    slopes = [_sum(dx * y + x * dy) for (x, y), (dx, dy) in zip(pairs, moved, strict=True)]
    return out, _added([jnp.zeros_like(out), *(slope.astype(out.dtype) for slope in slopes)])


@jax.custom_jvp
def total(arrays: list[Array]) -> Array:
    """Sums all entries of real arrays in float32 or wider, in the same way as the other sums here.

    On a mesh it is then sent together with them: the devices add up sums of one dtype together.
    """
    if not arrays:
        return jnp.zeros(())
    (arrays,), dtype = _promoted([arrays])
    if not _wider(dtype):
        return _added(list(map(_sum, arrays)))
    with jax.enable_x64(True):
        wide = [_sum(lax.convert_element_type(x, np.dtype("float64"))) for x in arrays]
        return lax.convert_element_type(_added(wide), dtype)


@total.defjvp
def _total_jvp(primals: Any, tangents: Any) -> Any:
    (arrays,), (moved,) = primals, tangents
    out = total(arrays)
    return out, _added([jnp.zeros_like(out), *(_sum(dx).astype(out.dtype) for dx in moved)])


def exact_total(arrays: list[Array]) -> Array:
    """Computes the `total`, also if partial sums overflow and the sum does not."""
    plain = total(arrays)
    if not arrays or _wider(plain.dtype):
        return plain
    far = 2.0**-64  # there are fewer entries, so a sum of terms that are smaller by this factor cannot overflow
    return jnp.where(lax.is_finite(plain), plain, total([_scaled(x, far) for x in arrays]) / far)


def _promoted(pairs: Any) -> tuple[Any, np.dtype]:
    dtype = functools.reduce(jnp.promote_types, {x.dtype for pair in pairs for x in pair}, np.dtype("float32"))
    return [tuple(x if x.dtype == dtype else x.astype(dtype) for x in pair) for pair in pairs], dtype


def _wider(dtype: np.dtype) -> bool:
    """Whether sums are computed in float64, as operations of a program that may have it disabled otherwise."""
    return dtype == np.float32 and jax.default_backend() == "cpu"


def _wide_sum(pairs: Any, axes: Axes) -> Array:
    totals: list[Array] = []
    for pair in pairs:
        # The barrier keeps the compiler from sharing a float64 copy of an array between several sums.
        x, y = (lax.convert_element_type(x, np.dtype("float64")) for x in lax.optimization_barrier(pair))
        totals.append(_sum(lax.mul(x, y), axes))
    return _added(totals, axes)


def _sums(pairs: Any, axes: Axes, factors: Sequence[float]) -> list[Array]:
    """Returns for each factor c the sum of (c x) (c y)."""
    found = [_sums_of_leaf(x, y, axes, factors) for x, y in pairs]
    return list(functools.reduce(_add, found)) if axes is not None else mesh.added(found)


def _sums_of_leaf(x: Array, y: Array, axes: Axes, factors: Sequence[float]) -> tuple[Array, ...]:
    products = [_square(x, c) if x is y else _scaled(x, c) * _scaled(y, c) for c in factors]
    if jax.default_backend() == "cpu":
        return tuple(_sum(product, axes) for product in products)
    over = tuple(range(x.ndim)) if axes is None else axes
    return tuple(lax.reduce(products, [np.zeros((), x.dtype)] * len(products), _add, over))


def _square(x: Array, factor: float) -> Array:
    """Computes (factor x)^2.

    XLA computes the sum of (c x)^2 as c^2 times the sum of x^2, and c^2 is out of range. A nonlinear operation in
    between prevents that: here the larger, or the smaller, of c |x| and |x|, which is c |x|.
    """
    if factor == 1:
        return lax.mul(x, x)
    size = lax.abs(x)
    scaled = (lax.max if factor > 1 else lax.min)(size * x.dtype.type(factor), size)
    return lax.mul(scaled, scaled)


def _scaled(x: Array, factor: float) -> Array:
    """Multiplies an array by a number, with a selection for the same reason; it keeps the sign."""
    return x if factor == 1 else jnp.where(jnp.isfinite(x), x * x.dtype.type(factor), x)


def _add(a: Any, b: Any) -> tuple[Array, ...]:
    return tuple(map(lax.add, a, b))


def _sum(x: Array, axes: Axes = None) -> Array:
    return lax.reduce_sum(x, axes=tuple(range(x.ndim)) if axes is None else axes)


def _added(numbers: Sequence[Array], axes: Axes = None) -> Array:
    """Adds up one scalar for each leaf; with `axes`, arrays of sums over these axes of a single leaf."""
    return functools.reduce(lax.add, numbers) if axes is not None else mesh.added([(x,) for x in numbers])[0]


def _along(number: Array, x: Array, axes: Axes) -> Array:
    """Reshapes the numbers of the parts of `x` that were summed over `axes`, so that they broadcast to `x`."""
    return (number if axes is None else jnp.expand_dims(number, axes)).astype(x.dtype)


def _pick(which: Array, a: Any, b: Any) -> Array:
    like = a if isinstance(a, Array) else b
    return lax.select(which, *(x if isinstance(x, Array) else lax.full_like(like, x) for x in (a, b)))
