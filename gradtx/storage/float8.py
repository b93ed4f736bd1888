"""Floating-point numbers of 8 bits, in blocks."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.core.packed import Format
from gradtx.core.value import choice, flag
from gradtx.storage.blocks import Blocked

__all__ = ["float8"]

_TO_EVEN = lax.RoundingMethod.TO_NEAREST_EVEN


class float8(Blocked):
    """Stores arrays as floating-point numbers of 8 bits, with a scale for each block of the last axis.

    Take it if the entries of a block have very different sizes; `quantized` takes as many bytes and is more precise
    near the largest entries. The scale is a power of two, so that scaling causes no rounding. In a block, e4m3fn has 4
    bits of precision over a range of 2^14, and e5m2 has 3 bits over 2^29; smaller entries lose bits and finally become
    zero. `gx.stored` takes the name of the dtype for this format.

    Args:
      to: 'float8_e4m3fn' (default) or 'float8_e5m2'.
      signed: False for arrays that are never negative, so that positive numbers stay positive. Default True.
      size: Largest number of entries in a block (default 128). At least 2. All blocks of a leaf have the same length.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> fp8 = gx.storage.float8("float8_e4m3fn")
      >>> print(fp8.decode(fp8.encode(jnp.float32([1.0, 0.1])), (2,)))
      [1.         0.1015625]
    """

    to: str = choice(default="float8_e4m3fn", options=("float8_e4m3fn", "float8_e5m2"))
    signed: bool = flag(default=True)

    def unsigned(self) -> Format:
        return self.replace(signed=False)

    @property
    def _top(self) -> float:
        """Returns the code of a block's largest entry: the largest power of two of the dtype."""
        return 2.0 ** math.floor(math.log2(float(jnp.finfo(self.to).max)))

    @property
    def _drop(self) -> int:
        """Returns how many bits the dtype has less than float32 after the binary point."""
        return 23 - jnp.finfo(self.to).nmant

    @property
    def _lowest(self) -> int:
        """Returns the exponent of the smallest normal number of the dtype."""
        return int(jnp.finfo(self.to).minexp)

    def scale_of(self, most: Array) -> Array:
        bits, drop = lax.bitcast_convert_type(most, jnp.int32), self._drop
        # Round the largest entry as the dtype does (to nearest, ties to even), so that an array that was stored before
        # gets the same scale again.
        bits = (bits + (1 << drop - 1) - 1 + (bits >> drop & 1)) >> drop << drop
        power = lax.bitcast_convert_type((bits + 0x7FFFFF) & 0x7F800000, jnp.float32)
        return jnp.where(jnp.isnan(most), jnp.nan, power)

    def codes(self, y: Array, inverse: Array) -> Array:
        drop, lowest = self._drop, self._lowest
        bits = lax.bitcast_convert_type(y * inverse * self._top, jnp.int32)
        size = jnp.minimum(bits & 0x7FFFFFFF, np.float32(self._top).view(np.int32))
        normal = (size + (1 << drop - 1) - 1 + (size >> drop & 1) >> drop) - (lowest + 126 << 23 - drop)
        least = lax.bitcast_convert_type(size, jnp.float32) * 2.0 ** (23 - drop - lowest)
        code = jnp.where(size < lowest + 127 << 23, lax.round(least, _TO_EVEN).astype(jnp.int32), normal)
        if not self.signed:
            code = jnp.where(size > 0, jnp.maximum(code, 1), code)
        return lax.bitcast_convert_type((code | bits >> 24 & 0x80).astype(jnp.uint8), self.to)

    def values(self, codes: Array, scale: Array) -> Array:
        drop, lowest = self._drop, self._lowest
        bits = lax.bitcast_convert_type(codes, jnp.uint8).astype(jnp.int32)
        size = bits & 0x7F
        normal = lax.bitcast_convert_type((size << drop) + (lowest + 126 << 23), jnp.float32)
        least = size.astype(jnp.float32) * 2.0 ** (lowest - 23 + drop)
        y = jnp.where(size < 1 << 23 - drop, least, normal) * (1 / self._top)
        return (jnp.where(bits > 0x7F, -y, y) if self.signed else y) * scale
