"""Samples that are drawn by name, so that inserting a case or a test reshuffles nothing."""

import zlib

__all__ = ["is_drawn"]


def is_drawn(name: str, one_in: int) -> bool:
    """Whether the sample of one name in `one_in` holds this one."""
    return zlib.crc32(name.encode()) % one_in == 0
