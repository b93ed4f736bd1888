"""Draws random samples by name, so that a new case or test does not change the rest of a sample."""

import zlib

__all__ = ["is_drawn"]


def is_drawn(name: str, one_in: int) -> bool:
    """Whether `name` is in a random sample that contains one name in `one_in`."""
    return zlib.crc32(name.encode()) % one_in == 0
