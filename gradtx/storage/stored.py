"""State in another format between steps: it is loaded before a step, and stored after it.

    state -> decode -> step of the inner transformation -> encode -> state

The inner transformation never knows. A format is a value with `encode` and `decode`; which fields it may be used for
follows from their declarations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.composite import Wrapper
from gradtx.core.describe import Place, describe, map_state
from gradtx.core.fits import UNKNOWN, Owner, check_made_by
from gradtx.core.slots import per_param
from gradtx.core.value import Value, dtype, integer, static

__all__ = ["Format", "rounded", "stored"]


class Format(Value):
    """How an array is stored; subclasses define `encode` and `decode`.

    A format is a value like a transformation: its fields are `flag`, `integer`, `dtype` and so on.
    """

    def encode(self, x: Array) -> Any:
        """What is kept of a real array, which is in float32 or wider: an array, or a dict of arrays."""
        raise TypeError(f"{type(self).__name__} must define encode(self, x).")

    def decode(self, parts: Any) -> Array:
        """The array, in its shape and in float32 or wider, from what is kept of it."""
        raise TypeError(f"{type(self).__name__} must define decode(self, parts).")


class rounded(Format):
    """Stores arrays as narrower floating-point numbers, rounded to the nearest.

    Args:
      to: The dtype, such as 'bfloat16' (the range of float32, 8 bits of precision) or 'float16'. A value beyond its
        range becomes its largest number.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.rounded("bfloat16").encode(jnp.float32([1.001])).dtype.name
    'bfloat16'
    """

    to: Any = dtype()

    def encode(self, x: Array) -> Array:
        return leaf.narrow(x, self.to)

    def decode(self, parts: Any) -> Array:
        return leaf.widen(parts)


def _format(who: str, name: str, value: Any) -> Format:
    if isinstance(value, Format):
        return value
    if isinstance(value, type) and issubclass(value, Format):
        raise TypeError(f"{who}: {name} is the class {value.__name__}; write {value.__name__}(...).")
    if isinstance(value, (str, np.dtype, type)):
        return rounded(rounded.check_field("to", value, who=who, name=name))
    raise TypeError(f"{who}: {name} must be a format, or a dtype such as 'bfloat16', got {checks.shown(value)}.")


def _formats(who: str, name: str, value: Any) -> Any:
    if isinstance(value, tuple):  # as it is stored
        value = dict(value)
    if isinstance(value, Mapping):
        return tuple((field, _format(who, f"{name}[{field!r}]", x)) for field, x in value.items())
    return _format(who, name, value)


class stored(Wrapper):
    """Stores the state of `inner` in a smaller format between steps.

    Take it where the state does not fit into memory. The numbers are loaded before each step and stored after it, so
    that the method computes in float32 as before.

    Args:
      inner: The transformation.
      formats: A dict from the name of a field of its state to a format, as in `{"mu": "bfloat16"}`, or one format for
        all fields that hold an array per parameter. A dtype stands for `rounded(dtype)`. A format of your own is a
        subclass of `gx.rules.Format`.
      min_size: Arrays with fewer entries (default 4096) stay as they are: they cost little, and often matter most.

    `gx.describe(tx, params)` shows what is stored how.

    >>> import jax, gradtx as gx
    >>> params = {"w": jax.ShapeDtypeStruct((1000, 1000), "float32")}
    >>> gx.describe(gx.adam(1e-3), params).nbytes, gx.describe(gx.stored(gx.adam(1e-3), "bfloat16"), params).nbytes
    (8000008, 4000008)

    Raises:
      TypeError: A format is neither a `Format` nor a floating dtype.
      ValueError: `init`: the state has no field of that name that holds an array per parameter.
    """

    formats: Any = static(check=_formats)
    min_size: int = integer(default=4096)

    def init(self, params: Any) -> Any:
        state = super().init(params)
        if isinstance(self.formats, tuple):
            known = {row.field for row in describe(self.inner, params).rows if row.kind == per_param.kind}
            for field, _ in self.formats:
                if field not in known and known:
                    raise ValueError(
                        f"stored: formats names {field!r}, but no state inside has a field of that name with an array "
                        f"per parameter; there are: {', '.join(sorted(known))}."
                    )
        return self._mapped(state, params, encode=True)

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        like = updates if params is None else params
        loaded = self._mapped(state, like, encode=False)
        updates, loaded = self.inner_update(updates, loaded, params, extra)
        return updates, self._mapped(loaded, like, encode=True)

    def _check_fits(self, state: Any, owner: Owner) -> None:
        """What is stored is not what the slots of `inner` declare, so the shapes are compared with those of `init`."""
        super()._check_fits(state, owner._replace(like=UNKNOWN))
        if not self.reshapes:  # the state of a function of the user's may change
            check_made_by(owner, self, state)

    def _mapped(self, state: Any, params: Any, *, encode: bool) -> Any:
        def one(place: Place, x: Any) -> Any:
            chosen = self._chosen(place)
            if chosen is None:
                return x
            if encode and jnp.iscomplexobj(x):
                raise TypeError(
                    f"stored: {place.field} at {place.path} is complex, and formats hold real numbers. Leave the field "
                    "out of formats, or use gx.split_real_and_imaginary."
                )
            return chosen.encode(leaf.widen(x)) if encode else chosen.decode(x)

        return map_state(one, self.inner, state, params)

    def _chosen(self, place: Place) -> Format | None:
        """The format of an array; None for one that stays as it is."""
        if not isinstance(place.slot, per_param) or math.prod(place.shape) < self.min_size:
            return None
        return dict(self.formats).get(place.field) if isinstance(self.formats, tuple) else self.formats

    def _arguments(self) -> Any:
        for name, value in super()._arguments():
            yield name, dict(value) if name == "formats" and isinstance(value, tuple) else value
