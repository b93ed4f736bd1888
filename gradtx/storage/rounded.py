"""Narrower floating-point numbers, rounded to the nearest or stochastically."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf
from gradtx.core.packed import Format
from gradtx.core.value import dtype, flag, seed

__all__ = ["Rounding", "rounded", "stochastic"]


class Rounding(Format):
    """Base class of both formats: a dtype, and the option to keep positive numbers positive."""

    to: Any = dtype()

    def decode(self, parts: Any, shape: tuple[int, ...]) -> Array:
        del shape
        return parts.astype(jnp.float32)

    def unsigned(self) -> Format:
        return self.replace(signed=False)

    def _positive(self, y: Array, x: Array, signed: bool) -> Array:
        """Returns `y`, which is `x` rounded, with the dtype's smallest number where a positive one became zero."""
        least = max(float(jnp.finfo(self.to).smallest_subnormal), float(np.finfo(np.float32).tiny))
        return y if signed else jnp.where((x > 0) & (y == 0), jnp.asarray(least, y.dtype), y)


class rounded(Rounding):
    """Stores arrays as narrower floating-point numbers, rounded to the nearest.

    Take bfloat16 for first moments: half the memory of float32. A second moment whose decay is close to 1 changes by
    less than half a unit of bfloat16 per step and would never change; take `stochastic` for it. `gx.stored` takes the
    name of the dtype for this format.

    Args:
      to: The dtype, such as 'bfloat16' (the range of float32 with 8 bits of precision) or 'float16'. A value beyond its
        range becomes its largest number.
      signed: False for arrays that are never negative, so that positive numbers stay positive. Default True.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> gx.storage.rounded("bfloat16").encode(jnp.float32([1.001])).dtype.name
      'bfloat16'
    """

    signed: bool = flag(default=True)

    def encode(self, x: Array) -> Array:
        return self._positive(leaf.narrow(x, self.to), x, self.signed)


class stochastic(Rounding, draws=True):
    """Stores arrays as narrower floating-point numbers, rounded up or down at random so that the mean is right.

    Take it for second moments and other slow averages: changes that are too small for the dtype are made with the right
    probability instead of being lost. The random numbers are computed from the seed, the array's place in the state,
    the step and the entry's index. So a run repeats bit for bit, on any mesh, and only a counter per array is kept.

    Args:
      to: The dtype, such as 'bfloat16'. A value beyond its range becomes its largest number.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Default 0.
      signed: False for arrays that are never negative, so that positive numbers stay positive. Default True.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.stored(gx.adam(1e-3), {"nu": gx.storage.stochastic("bfloat16")}, min_size=1)
      >>> tx.init({"w": jnp.ones(3)})[0].nu["w"].parts.dtype.name
      'bfloat16'
    """

    seed: int = seed(default=0)
    signed: bool = flag(default=True)

    def encode(self, x: Array, bits: Array) -> Array:
        info = jnp.finfo(self.to)
        if info.nmant >= 23:
            return leaf.narrow(x, self.to)
        # The step between neighbours at x is a power of two, so that all of this is exact.
        exponent = jnp.clip(_exponent(x), max(int(info.minexp), info.nmant - 126), 127)
        step, steps = _power(exponent - info.nmant), jnp.abs(x) * _power(info.nmant - exponent)
        whole = jnp.floor(steps)
        rest = steps - whole
        draw = (bits >> 8).astype(jnp.float32) * np.float32(2**-24)
        y = jnp.copysign(jnp.minimum((whole + (draw < rest)) * step, float(info.max)), x)
        y = leaf.narrow(jnp.where(jnp.isfinite(x), y, x), self.to)
        return self._positive(y, x, self.signed)


def _exponent(x: Array) -> Array:
    """Returns the exponents of finite float32 numbers."""
    return ((lax.bitcast_convert_type(x, jnp.int32) >> 23) & 0xFF) - 127


def _power(exponent: Array) -> Array:
    """Computes 2^exponent from its bits."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)
