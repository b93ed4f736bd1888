"""A bfloat16 together with the remainder of its rounding: 3 or 4 bytes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx.core.packed import Format
from gradtx.core.value import choice

__all__ = ["corrected"]

_LARGEST, _INFINITY, _NAN = 0x7F7F7F7F, 0x7F800000, 0x7FC00000
"""The bits of the largest float32 whose nearest bfloat16 is finite, of infinity, and of a NaN."""


class corrected(Format):
    """Stores arrays as bfloat16, together with the remainder of the rounding as an integer.

    Take it for moments and averages that have to be more precise than bfloat16: it needs 3 or 4 bytes per entry instead
    of 4. A float32 and a bfloat16 differ only in the last 16 bits, so the remainder is an integer. With 16 bits the
    pair equals the float32 itself, up to 3.39e38; with 8 bits it has 16 bits of precision. The bfloat16 half is the
    array rounded to the nearest bfloat16 and can be used separately. `gx.stored` takes the names 'bf16+8' and 'bf16+16'
    for this format.

    Args:
      bits: Size of the remainder: 8 (default) for a relative error of at most 2^-16, or 16 for none.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> pair, x = gx.storage.corrected(16), jnp.float32([0.1])
      >>> bool(pair.decode(pair.encode(x), (1,)) == x)
      True
    """

    bits: int = choice(default=8, options=(8, 16))

    def encode(self, x: Array) -> dict[str, Array]:
        bits = lax.bitcast_convert_type(x, jnp.int32)
        size = bits & 0x7FFFFFFF
        # If rounding would make the high half infinite, keep the largest finite number. NaN stays NaN.
        size = jnp.minimum(size, jnp.where(size < _INFINITY, _LARGEST, _NAN))
        bits = bits & -0x80000000 | size
        if self.bits == 8:
            bits = bits + 0x80 >> 8
        high = bits + (1 << self.bits - 1) >> self.bits
        # The rest holds the last bits, which `high` lacks, as an integer with a sign.
        return {
            "high": lax.bitcast_convert_type(high.astype(jnp.uint16), jnp.bfloat16),
            "rest": bits.astype(jnp.int8 if self.bits == 8 else jnp.int16),
        }

    def decode(self, parts: Any, shape: tuple[int, ...]) -> Array:
        del shape
        high = lax.bitcast_convert_type(parts["high"], jnp.uint16).astype(jnp.int32)
        kept = (high << self.bits) + parts["rest"].astype(jnp.int32)
        return lax.bitcast_convert_type(kept << (16 - self.bits), jnp.float32)
