"""Integers of 8 or 4 bits, in blocks, by a codebook that has a closed form.

A code q in -n..n (0..n for arrays that are never negative) stands for sign(q) * (|q| / n)^k of the block's largest
entry. With k = 1 the codes are equally spaced. With k = 4 their density falls with the size as in the dynamic-exponent
code of Dettmers et al. (2022, "8-bit Optimizers via Block-wise Quantization"), which has half as many codes in each
lower decade; here two square roots find the code, in place of a search in a table.

In arrays that are never negative the code 0 stands for zero alone: a second moment that is rounded to zero makes the
step explode (Li et al., 2023, "Memory Efficient Optimizers with 4-bit States").

A moving average changes by less at a step than the distance of neighbouring codes of 4 bits, so that codes to the
nearest would stay where they are. Drawn codes follow the average.
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

    8 bits are enough for most moments. `gx.stored` takes the names 'int8' and 'uint8' for the defaults, and 'int4' and
    'uint4' for `quantized(4, codebook="quadratic", stochastic=True)`. Codes keep the array's shape, so that they are
    split over a mesh as it is; two codes of 4 bits share a byte.

    With the dynamic codebook an entry is kept with a relative error of about 2 / q, where q is its code, n times the
    fourth root of its share of the block's largest entry (n is 127, or 255 unsigned): 2% near the largest entry, 5% at
    a hundredth, 9% at a thousandth of it, and half as much for second moments. With the linear one the error is at most
    1 / (2 n) of the largest entry. Stochastic rounding doubles the error of one step.

    Args:
      bits: 8 or 4.
      signed: False for arrays that are never negative. The sign's bit then goes into the precision, and positive
        numbers stay positive.
      codebook: 'dynamic' (k = 4) for entries of very different sizes, 'quadratic' (k = 2), or 'linear' (k = 1) for
        entries of similar size.
      stochastic: Whether codes are drawn so that the mean is right, as `gx.storage.stochastic` draws. With 4 bits they
        should be.
      seed: Another number draws otherwise.
      size: Entries of a block (default 128), at most: blocks of a leaf are equally long. Where the last axis is shorter
        than 16, blocks go over the last few axes.

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
    def draws(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether codes are drawn."""
        return self.stochastic

    @property
    def per_byte(self) -> int:
        return 8 // self.bits

    @property
    def most(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - self.signed) - 1

    def scale_of(self, most: Array) -> Array:
        """The unit of a code q: the entry is q scale, q^2 scale, or its root is q^2 scale, by the codebook.

        It has 19 bits after the point, so that what was stored before has the same scale again.
        """
        if self.codebook == "dynamic":
            most = jnp.sqrt(most)
        scale = most / (self.most if self.codebook == "linear" else self.most**2)
        return lax.bitcast_convert_type(lax.bitcast_convert_type(scale, jnp.int32) + 8 & ~15, jnp.float32)

    def codes(self, y: Array, inverse: Array, bits: Array | None = None) -> Array:
        if self.bits == 8:
            return self._integers(y, inverse, bits).astype(jnp.int8 if self.signed else jnp.uint8)
        # The halves of a block share bytes; they are cut before any work, which XLA makes one loop.
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
        q = jnp.where(q < self.most + 1, q, self.most).astype(jnp.int32)  # a NaN, too, whose scale is NaN
        return jnp.where(y < 0, -q, q) if self.signed else q

    def _drawn(self, q: Array, units: Array, bits: Array) -> Array:
        """The code below q or the one above it, so that the mean of what they stand for is right."""

        def value(q: Array) -> Array:
            square = q * q
            return q if self.codebook == "linear" else square if self.codebook == "quadratic" else square * square

        below = jnp.floor(q + 2.0**-16)  # what was stored before is not drawn anew
        low, high = value(below), value(below + 1)
        exact = units * units if self.codebook == "dynamic" else units
        draw = (bits >> 8).astype(jnp.float32) * np.float32(2**-24)
        return below + (draw * (high - low) < exact - low * (1 + 2.0**-16))

    def values(self, codes: Array, scale: Array) -> Array:
        # Without constant factors, which XLA would join in another order for other shapes.
        if self.bits == 4:
            codes = jnp.concatenate([codes & 15, codes >> 4], axis=-1).astype(jnp.int8)
            codes = (codes ^ 8) - 8 if self.signed else codes
        q = codes.astype(jnp.float32)
        if self.codebook == "linear":
            return q * scale
        root = q * q * scale
        y = root * root if self.codebook == "dynamic" else root
        return jnp.copysign(y, q) if self.signed else y
