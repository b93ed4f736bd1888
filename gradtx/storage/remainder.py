"""The remainder of rounding a number to 16 bits, kept in 8 or 16 further bits.

Let p be the number nearest to x that has m bits after the first, and 2^e its power of two. Then x - p is at most half a
unit in the last place, 2^(e - m - 1). A remainder of k bits is

    r = round((x - p) / 2^(e - m - k)),        x' = p + r 2^(e - m - k)

so that x' has m + k bits after the first: 15 for bfloat16 and int8, and 23 for bfloat16 and int16, as float32 has.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf

__all__ = ["remainder", "with_remainder"]

_EXPONENT = np.uint32(0x7F800000)
"""The bits of a float32 that hold its exponent."""


def remainder(x: Array, p: Array, dtype: Any) -> Array:
    """Returns the remainder of rounding `x` to `p`, which has 16 bits; zero where `p` is not finite.

    Args:
      x: An array in float32.
      p: `x` rounded to bfloat16 or float16.
      dtype: Dtype of the remainder, int8 or int16.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> from gradtx.storage.remainder import remainder, with_remainder
      >>> x = jnp.float32([1.001])
      >>> p = x.astype("bfloat16")
      >>> print(p, with_remainder(p, remainder(x, p, "int8")))
      [1] [1.0010071]
    """
    power, places = _last_places(p, dtype)
    limit = jnp.iinfo(dtype)
    whole = jnp.round((x - leaf.widen(p)) / power * 2.0**places)
    return jnp.where(jnp.isfinite(whole), jnp.clip(whole, limit.min + 1, limit.max), 0).astype(dtype)


def with_remainder(p: Array, rest: Array) -> Array:
    """Returns the float32 number whose rounding is `p` and whose remainder is `rest`.

    Args:
      p: An array in bfloat16 or float16.
      rest: The remainder of its rounding, in int8 or int16.
    """
    power, places = _last_places(p, rest.dtype)
    return leaf.widen(p) + jnp.where(rest == 0, 0, rest.astype(jnp.float32) * 2.0**-places * power)


def _last_places(p: Array, dtype: Any) -> tuple[Array, int]:
    """Returns 2^e of each number, and the number of places after it at which its remainder ends."""
    kind = jnp.finfo(p.dtype)
    power = lax.bitcast_convert_type(lax.bitcast_convert_type(leaf.widen(p), jnp.uint32) & _EXPONENT, jnp.float32)
    return jnp.maximum(power, float(kind.smallest_normal)), kind.nmant + jnp.iinfo(dtype).bits
