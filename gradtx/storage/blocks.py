"""Arrays in blocks along their last axis, each with a scale of its own."""

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
"""A last axis that is shorter is joined with the one before it."""


class Blocks(NamedTuple):
    """How an array is cut into blocks.

    They lie along the last axis; where that is shorter than 16, along the last few axes in one.
    """

    lead: tuple[int, ...]
    """The axes that stay."""
    joined: int
    """How many axes at the end are cut into blocks as if they were one."""
    n: int
    """The entries of these."""
    count: int
    """The number of blocks among them."""
    length: int
    """The entries of each block; the last one is filled up with zeros."""

    @classmethod
    def of(cls, shape: tuple[int, ...], size: int) -> Blocks:
        """How an array of this shape is cut into blocks of about `size`."""
        joined = min(1, len(shape))
        while joined < len(shape) and math.prod(shape[len(shape) - joined :]) < _SHORT:
            joined += 1
        n = math.prod(shape[len(shape) - joined :])
        length = _length(n, size)
        return cls(shape[: len(shape) - joined], joined, n, max(-(-n // length), 1), length)

    def cut(self, x: Array) -> Array:
        """The array with the axes (..., block, entry)."""
        x = x.reshape(*self.lead, self.n)
        if self.count * self.length > self.n:
            x = jnp.pad(x, [(0, 0)] * len(self.lead) + [(0, self.count * self.length - self.n)])
        return x.reshape(*self.lead, self.count, self.length)

    def glued(self, y: Array, shape: tuple[int, ...]) -> Array:
        """The array of this shape, from its blocks."""
        return y.reshape(*self.lead, self.count * self.length)[..., : self.n].reshape(shape)

    def part(self, x: Array) -> Array:
        """A part (..., entries) with as many axes as the array: joined axes have the length 1, but for the last."""
        x = x.reshape(*self.lead, *(1,) * (self.joined - 1), x.shape[-1])
        return mesh.kept_whole(x, range(-self.joined, 0)) if self.joined > 1 or x.shape[-1] == 1 else x

    def parted(self, x: Array) -> Array:
        """Inverts `part`."""
        return x.reshape(*self.lead, x.shape[-1])


@functools.cache
def _length(n: int, size: int) -> int:
    """The length of blocks: one of about `size` that divides `n`, and is a multiple of a power of two, if there is one.

    Then the last block needs no filling up, for which XLA would copy the array.
    """
    if n <= size // 4:
        return max(-(-n // 2) * 2, 2)
    fitting = [k for k in range(size // 2, 2 * size + 1) if n % k == 0 and k % 4 == 0]
    if fitting:
        return max(fitting, key=lambda k: (math.gcd(k, _LANES), -abs(k - size)))
    return min(size, -(-n // _LANES) * _LANES)


_LANES = 16
_MOST = 2.0**125
"""The largest scale: the reciprocal of a larger one is no normal number. Larger entries become this."""


def largest(y: Array) -> Array:
    """The largest absolute value of each block; NaN if there is one, and infinity.

    The bits of absolute values are ordered as the values are, and NaN is above all. The two steps, one of integers and
    one of floats, keep XLA from making one reduction of them, which could be fused with nothing on a CPU.
    """
    bits = lax.bitcast_convert_type(y, jnp.int32) & 0x7FFFFFFF
    lanes = math.gcd(y.shape[-1], _LANES)
    if y.shape[-1] > lanes > 2:
        bits = jnp.max(bits.reshape(*bits.shape[:-1], -1, lanes), axis=-2)
    return jnp.max(lax.bitcast_convert_type(bits, jnp.float32), axis=-1)


class Blocked(Format):
    """A format with one scale per block; subclasses define what is kept of an entry in [-1, 1].

    A NaN or infinity makes all entries of its block NaN.
    """

    size: int = integer(default=128, ge=2, kw_only=True)

    def scale_of(self, most: Array) -> Array:
        """The scale of each block, from its largest absolute value."""
        return most

    def codes(self, y: Array, inverse: Array) -> Array:
        """What is kept of blocks (..., block, entry); `inverse` has 1 / scale, with the axes (..., block, 1)."""
        raise NotImplementedError

    def values(self, codes: Array, scale: Array) -> Array:
        """The blocks from what is kept of them, and their scales (..., block, 1)."""
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
