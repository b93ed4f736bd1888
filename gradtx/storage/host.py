"""Arrays in the memory of the host."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from gradtx.core.packed import Format

__all__ = ["host"]


class host(Format):
    """Stores arrays in pinned memory of the host, and moves them to the device for a step.

    It costs no precision, but the time of two transfers per step. The backend must have pinned host memory, as backends
    of GPUs and TPUs do. `gx.stored` takes the name 'host' for this format.

    Raises:
      ValueError: The backend has no pinned host memory apart from the memory of its devices.

    Example:
      >>> import gradtx as gx
      >>> tx = gx.stored(gx.adam(1e-3), {"mu": "host"})
    """

    def encode(self, x: Array) -> Array:
        memories = {memory.kind for memory in jax.devices()[0].addressable_memories()}
        if "pinned_host" not in memories:
            raise ValueError(
                f"host: the {jax.default_backend()} backend has no pinned host memory; it has "
                f"{', '.join(sorted(memories))}. Use a smaller format such as 'int8', or another backend."
            )
        return jax.device_put(x, jax.memory.Space.Host)

    def decode(self, parts: Any, shape: tuple[int, ...]) -> Array:
        del shape
        return jax.device_put(parts, jax.memory.Space.Device)
