"""Cuts arrays into blocks along their last axis, each of which gets its own scale."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from gradtx import mesh
from gradtx.core.packed import Format
from gradtx.core.value import integer

__all__ = ["Blocked", "Blocks", "largest"]

_SHORT = 16
"""A shorter last axis is joined with the axis before it."""


class Blocks(NamedTuple):
    """Describes how an array is cut into blocks.

    Blocks lie along the last axis; if it is shorter than 16, along the last few axes joined into one.
    """

    lead: tuple[int, ...]
    """The lengths of the leading axes, which are not cut."""
    joined: int
    """The number of axes at the end that are cut into blocks as if they were one."""
    n: int
    """The number of entries of these axes together."""
    count: int
    """The number of blocks into which they are cut."""
    length: int
    """The number of entries of a block; the last block is padded with zeros."""

    @classmethod
    def of(cls, shape: tuple[int, ...], size: int) -> Blocks:
        """Returns how an array of this shape is cut into blocks of about `size` entries."""
        joined = min(1, len(shape))
        while joined < len(shape) and math.prod(shape[len(shape) - joined :]) < _SHORT:
            joined += 1
        n = math.prod(shape[len(shape) - joined :])
        length = _length(n, size)
        return cls(shape[: len(shape) - joined], joined, n, max(-(-n // length), 1), length)

    def cut(self, x: Array) -> Array:
        """Returns the array with the axes (..., block, entry)."""
        x = x.reshape(*self.lead, self.n)
        if self.count * self.length > self.n:
            x = jnp.pad(x, [(0, 0)] * len(self.lead) + [(0, self.count * self.length - self.n)])
        return x.reshape(*self.lead, self.count, self.length)

    def glued(self, y: Array, shape: tuple[int, ...]) -> Array:
        """Returns the array of this shape, put together from its blocks."""
        return y.reshape(*self.lead, self.count * self.length)[..., : self.n].reshape(shape)

    def part(self, x: Array) -> Array:
        """Returns a part (..., entries) with as many axes as the array.

        Joined axes get the length 1, except for the last.
        """
        x = x.reshape(*self.lead, *(1,) * (self.joined - 1), x.shape[-1])
        return mesh.kept_whole(x, range(-self.joined, 0)) if self.joined > 1 or x.shape[-1] == 1 else x

    def parted(self, x: Array) -> Array:
        """Inverts `part`."""
        return x.reshape(*self.lead, x.shape[-1])


@functools.cache
def _length(n: int, size: int) -> int:
    """Returns the length of blocks: about `size`, and a divisor of `n` and multiple of a power of two if there is one.

    Then the last block needs no padding, for which XLA would copy the array.
    """
    if n <= size // 4:
        return max(-(-n // 2) * 2, 2)
    fitting = [k for k in range(size // 2, 2 * size + 1) if n % k == 0 and k % 4 == 0]
    if fitting:
        return max(fitting, key=lambda k: (math.gcd(k, _LANES), -abs(k - size)))
    return min(size, -(-n // _LANES) * _LANES)


_LANES = 16
_MOST = 2.0**125
"""The largest scale, because the reciprocal of a larger one is not a normal number. Larger entries become this."""


def largest(y: Array) -> Array:
    """Returns the largest absolute value of each block, infinity and NaN included.

    The bits of absolute values have the same order as the values, and NaN is above all. The two steps, one of integers
    and one of floats, prevent XLA from making one reduction of them, which it could not fuse with anything on a CPU.
    """
    bits = lax.bitcast_convert_type(y, jnp.int32) & 0x7FFFFFFF
    lanes = math.gcd(y.shape[-1], _LANES)
    if y.shape[-1] > lanes > 2:
        bits = jnp.max(bits.reshape(*bits.shape[:-1], -1, lanes), axis=-2)
    return jnp.max(lax.bitcast_convert_type(bits, jnp.float32), axis=-1)


class Blocked(Format):
    """A format with one scale per block; subclasses define how an entry in [-1, 1] is stored.

    A NaN or infinity makes all entries of its block NaN.
    """

    size: int = integer(default=128, ge=2, kw_only=True)

    def scale_of(self, most: Array) -> Array:
        """Returns the scale of each block, from its largest absolute value."""
        return most

    def codes(self, y: Array, inverse: Array) -> Array:
        """Encodes blocks (..., block, entry); `inverse` is 1 / scale, with the axes (..., block, 1)."""
        raise NotImplementedError

    def values(self, codes: Array, scale: Array) -> Array:
        """Decodes blocks, from their codes and their scales (..., block, 1)."""
        raise NotImplementedError

    per_byte = 1

    def encode(self, x: Array, *bits: Array) -> dict[str, Array]:
        blocks = Blocks.of(x.shape, self.size)
        y = blocks.cut(x)
        most = largest(y)
        scale = self.scale_of(jnp.where(jnp.isfinite(most), jnp.minimum(most, _MOST), jnp.nan))
        codes = self.codes(y, (1 / jnp.where(scale == 0, 1, scale))[..., None], *map(blocks.cut, bits))
        if self.per_byte == 1:
            return {"codes": blocks.glued(codes, x.shape), "scale": blocks.part(scale)}
        return {"codes": blocks.part(codes.reshape(*blocks.lead, -1)), "scale": blocks.part(scale)}

    def decode(self, parts: Any, shape: tuple[int, ...]) -> Array:
        blocks = Blocks.of(shape, self.size)
        codes, scale = parts["codes"], blocks.parted(parts["scale"])
        if self.per_byte == 1:
            codes = blocks.cut(codes)
        else:
            codes = codes.reshape(*blocks.lead, blocks.count, blocks.length // self.per_byte)
        return blocks.glued(self.values(codes, scale[..., None]), shape)
