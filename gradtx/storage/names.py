"""The names of storage formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.core.packed import Format
from gradtx.select import Selector
from gradtx.storage.corrected import corrected
from gradtx.storage.float8 import float8
from gradtx.storage.host import host
from gradtx.storage.quantized import quantized
from gradtx.storage.rounded import rounded

__all__ = ["NAMES", "format_of", "typed"]

_INT4 = quantized(4, codebook="quadratic", stochastic=True)

NAMES: dict[str, Format] = {
    "bfloat16": rounded("bfloat16"),
    "float16": rounded("float16"),
    "float8_e4m3fn": float8("float8_e4m3fn"),
    "float8_e5m2": float8("float8_e5m2"),
    "int8": quantized(8),
    "uint8": quantized(8, signed=False),
    "int4": _INT4,
    "uint4": _INT4.replace(signed=False),
    "bf16+8": corrected(8),
    "bf16+16": corrected(16),
    "host": host(),
}
"""The formats that have a name, by name."""


def format_of(x: Any) -> Format | None:
    """Returns the format for a checked name or value; None to leave an array unchanged."""
    return NAMES[x] if isinstance(x, str) else x


def typed(who: str, name: str, value: Any) -> Any:
    """Returns formats as the user wrote them, in a hashable form; raises unless all are valid.

    A dict by field and rules become tuples of pairs. The error is a TypeError or a ValueError.
    """
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_pair(who, name, pair) for pair in value)
    return _one(who, name, value)


def _pair(who: str, name: str, pair: Any) -> tuple[Any, Any]:
    key, value = checks.pair(who, f"each rule of {name}", pair)
    if isinstance(key, str):
        return key, _one(who, f"{name}[{key!r}]", value)
    if not isinstance(key, Selector):
        raise TypeError(
            f"{who}: a rule of {name} must begin with a selector such as gx.select.path('embed/**'), got "
            f"{checks.shown(key)}."
        )
    return key, typed(who, f"the rule of {name} for {key}", value)


def _one(who: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, Format):
        return value
    if isinstance(value, type) and issubclass(value, Format):
        raise TypeError(f"{who}: {name} is the class {value.__name__}; write {value.__name__}(...).")
    found = _dtype(value)
    text = value if isinstance(value, str) else None if found is None else found.name
    if text in NAMES:
        return text
    if found is not None:
        return rounded(found)
    raise TypeError(
        f"{who}: {name} must be a format: one of {', '.join(map(repr, NAMES))}, a value such as "
        f"gx.storage.stochastic('bfloat16'), or None to leave arrays as they are; got {checks.shown(value)}."
    )


def _dtype(value: Any) -> np.dtype | None:
    """Returns the real floating-point dtype that the value stands for, or None."""
    try:
        found = jnp.dtype(value)
    except TypeError:
        return None
    return found if jnp.issubdtype(found, jnp.floating) else None
