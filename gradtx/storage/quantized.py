"""Integers of 8 or 4 bits in blocks, with a codebook that has a closed form.

A code q in -n..n (0..n for arrays that are never negative) stands for sign(q) * (|q| / n)^k times the largest entry of
the block. With k = 1 the codes are equally spaced. With k = 4 they become denser towards zero like the dynamic-exponent
code of Dettmers et al. (2022, "8-bit Optimizers via Block-wise Quantization"), which has half as many codes in each
lower decade. Here two square roots compute the code, instead of a search in a table.

In arrays that are never negative the code 0 stands for zero only, because a second moment that is rounded to zero makes
the step explode (Li et al., 2023, "Memory Efficient Optimizers with 4-bit States").

In one step a moving average changes by less than the distance between neighboring 4-bit codes. Rounded to the nearest
code, it would never change; with stochastic rounding the codes follow the average.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx.core.packed import Format
from gradtx.core.value import choice, flag, seed
from gradtx.storage.blocks import Blocked

__all__ = ["quantized"]


class quantized(Blocked):
    """Stores arrays as integers of 8 or 4 bits, with a float32 scale for each block of the last axis.

    Take 8 bits for most moments: a quarter of the memory of float32. Take 4 bits, with stochastic rounding, if memory
    is very scarce. `gx.stored` takes the names 'int8' and 'uint8' for the defaults, and 'int4' and 'uint4' for
    `quantized(4, codebook="quadratic", stochastic=True)`. Codes keep the array's shape, so that they are split over a
    mesh like the array; two codes of 4 bits share a byte.

    With the dynamic codebook an entry has a relative error of about 2 / q, where q is its code: n times the fourth root
    of its size relative to the block's largest entry (n is 127, or 255 unsigned). This is 2% near the largest entry, 5%
    at a hundredth and 9% at a thousandth of it, and half as much for second moments. With the linear codebook the error
    is at most 1 / (2 n) of the largest entry. Stochastic rounding doubles the error of one step.

    Args:
      bits: Size of a code: 8 (default) or 4.
      signed: False for arrays that are never negative. The bit of the sign is then used for precision, and positive
        numbers stay positive. Default True.
      codebook: 'dynamic' (k = 4, default) for entries of very different sizes, 'quadratic' (k = 2), or 'linear' (k = 1)
        for entries of similar size.
      stochastic: Whether to round at random so that the mean is right, as `gx.storage.stochastic` does; advisable with
        4 bits. Default False.
      seed: Seed of the random numbers, an integer; the same seed gives the same run. Default 0.
      size: Largest number of entries in a block (default 128). At least 2. All blocks of a leaf have the same length.
        If the last axis is shorter than 16, blocks extend over the last few axes.

    References:
      Dettmers et al., 2022, "8-bit Optimizers via Block-wise Quantization"; Li et al., 2023, "Memory Efficient
        Optimizers with 4-bit States".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> int8 = gx.storage.quantized(8)
      >>> parts = int8.encode(jnp.float32([1.0, 0.1, -0.01]))
      >>> print(parts["codes"], int8.decode(parts, (3,)))
      [127  71 -40] [ 1.          0.09768289 -0.00984068]
    """

    bits: int = choice(default=8, options=(8, 4))
    signed: bool = flag(default=True)
    codebook: str = choice(default="dynamic", options=("dynamic", "quadratic", "linear"))
    stochastic: bool = flag(default=False)
    seed: int = seed(default=0)

    def unsigned(self) -> Format:
        return self.replace(signed=False)

    @property
    def draws(self) -> bool:
        """Whether codes are rounded at random."""
        return self.stochastic

    @property
    def per_byte(self) -> int:
        return 8 // self.bits

    @property
    def most(self) -> int:
        """Returns the largest code."""
        return 2 ** (self.bits - self.signed) - 1

    def scale_of(self, most: Array) -> Array:
        """Returns the unit of a code q.

        The entry is q scale ('linear'), q^2 scale ('quadratic') or (q^2 scale)^2 ('dynamic'). The unit has 19 bits
        after the point, so that an array that was stored before gets the same scale again.
        """
        if self.codebook == "dynamic":
            most = jnp.sqrt(most)
        scale = most / (self.most if self.codebook == "linear" else self.most**2)
        return lax.bitcast_convert_type(lax.bitcast_convert_type(scale, jnp.int32) + 8 & ~15, jnp.float32)

    def codes(self, y: Array, inverse: Array, bits: Array | None = None) -> Array:
        if self.bits == 8:
            return self._integers(y, inverse, bits).astype(jnp.int8 if self.signed else jnp.uint8)
        # The two halves of a block share bytes. They are split before any arithmetic, so that XLA makes one loop.
        halves = (None, None) if bits is None else jnp.split(bits, 2, axis=-1)
        both = zip(jnp.split(y, 2, axis=-1), halves, strict=True)
        low, high = (self._integers(half, inverse, drawn) for half, drawn in both)
        return (low & 15 | high << 4).astype(jnp.uint8)

    def _integers(self, y: Array, inverse: Array, bits: Array | None) -> Array:
        size = jnp.abs(y)
        units = (jnp.sqrt(size) if self.codebook == "dynamic" else size) * inverse  # q^2, or q
        q = units if self.codebook == "linear" else jnp.sqrt(units)
        q = q + 0.5 if bits is None else self._drawn(q, units, bits)
        if not self.signed:
            q = jnp.where(y > 0, jnp.maximum(q, 1), q)
        q = jnp.where(q < self.most + 1, q, self.most).astype(jnp.int32)  # also for NaN, whose scale is NaN
        return jnp.where(y < 0, -q, q) if self.signed else q

    def _drawn(self, q: Array, units: Array, bits: Array) -> Array:
        """Chooses between the code below q and the code above it, so that the mean of the decoded values is right."""

        def value(q: Array) -> Array:
            square = q * q
            return q if self.codebook == "linear" else square if self.codebook == "quadratic" else square * square

        below = jnp.floor(q + 2.0**-16)  # a value that was stored before keeps its code
        low, high = value(below), value(below + 1)
        exact = units * units if self.codebook == "dynamic" else units
        draw = (bits >> 8).astype(jnp.float32) * np.float32(2**-24)
        return below + (draw * (high - low) < exact - low * (1 + 2.0**-16))

    def values(self, codes: Array, scale: Array) -> Array:
        # No constant factors here: XLA would combine them in a different order for different shapes.
        if self.bits == 4:
            codes = jnp.concatenate([codes & 15, codes >> 4], axis=-1).astype(jnp.int8)
            codes = (codes ^ 8) - 8 if self.signed else codes
        q = codes.astype(jnp.float32)
        if self.codebook == "linear":
            return q * scale
        root = q * q * scale
        y = root * root if self.codebook == "dynamic" else root
        return jnp.copysign(y, q) if self.signed else y
