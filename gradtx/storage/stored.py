"""Stores state in another format between steps: the state is decoded before a rule and encoded after it.

    state -> decode -> step of the inner transformation -> encode -> state

`stored` only packs the result of `init`. The engine loads and stores packed slots leaf by leaf (`core/packed.py`), so
that neither rules nor wrappers in between have to know about formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks
from gradtx.core.composite import Composite, Wrapper
from gradtx.core.describe import Place, describe, map_state
from gradtx.core.fits import UNKNOWN, Owner, check_made_by
from gradtx.core.packed import Format, Packed, is_packed
from gradtx.core.slots import PerLeaf, per_param
from gradtx.core.state import declared
from gradtx.core.value import integer, static
from gradtx.storage.names import format_of, typed
from gradtx.types import Params, State, Updates

__all__ = ["stored"]


class stored(Wrapper):
    """Stores the state of `inner` in a smaller format between steps.

    Take it if the state does not fit into memory. Each array is decoded before the rule and encoded after it, in the
    same loop that computes the step, so that the method computes in float32 as before. docs/storage.md says which
    format to take. `gx.describe(tx, params)` shows how each field is stored, and `gx.convert_state` converts a state to
    another format.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      formats: One format for all fields with an array per parameter; or a dict from the name of a field to its format,
        as in `{"mu": "int8", "nu": "uint8"}`; or rules `(selector, formats)`, of which the first whose selector matches
        a parameter applies, with None to leave it unchanged. A format is a name ('bfloat16', 'float16',
        'float8_e4m3fn', 'float8_e5m2', 'int8', 'uint8', 'int4', 'uint4', 'bf16+8', 'bf16+16' or 'host'), a value such
        as `gx.storage.stochastic("bfloat16")`, or your own subclass of `gx.storage.Format`. Fields that are never
        negative use the unsigned form of a format.
      min_size: Arrays with fewer entries stay unchanged (default 4096), because they cost little memory and often
        matter most.

    Returns:
      A transformation. State: the inner state, with 2 bytes per entry for 'bfloat16' and 'float16', about 1 byte for
        8-bit formats, about half a byte for 4-bit formats, and 3 or 4 bytes for 'bf16+8' and 'bf16+16'.

    Example:
      >>> import jax, gradtx as gx
      >>> params = {"w": jax.ShapeDtypeStruct((1000, 1000), "float32")}
      >>> gx.describe(gx.adam(1e-3), params).nbytes, gx.describe(gx.stored(gx.adam(1e-3), "bfloat16"), params).nbytes
      (8000008, 4000008)

    Raises:
      TypeError: A format is neither a name nor a `Format`. From `init`: an array is complex.
      ValueError: From `init`: the state has no field of that name with an array per parameter; or a field that can be
        negative was given 'uint8' or 'uint4'.
    """

    formats: Any = static(check=typed)
    min_size: int = integer(default=4096)

    def init(self, params: Params) -> Any:
        self._check_fields(params)
        chosen = self._chooser(params)

        def pack(place: Place, x: Any) -> Any:
            found = chosen(place)
            return x if found is None or is_packed(x) else _packed(found, place, x)

        return map_state(pack, self.inner, super().init(params), params)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.inner_update(updates, state, params, extra)

    def _check_fits(self, state: State, owner: Owner) -> None:
        super()._check_fits(state, owner)
        if not self.reshapes and owner.like is not UNKNOWN:  # a user's function may return a state of another form
            check_made_by(owner, self, state)

    def _chooser(self, params: Any) -> Callable[[Place], Format | None]:
        """Returns a function from a place in the state to its format, or to None if it stays unchanged."""
        paths = checks.paths(params)

        def of(formats: Any) -> Callable[[Place], Any]:
            if not isinstance(formats, tuple):
                return lambda place: formats if isinstance(place.slot, per_param) else None
            if all(isinstance(key, str) for key, _ in formats):
                return lambda place: dict(formats).get(place.field) if isinstance(place.slot, PerLeaf) else None
            rules: dict[str, Any] = {}
            for selector, inner in formats:
                for path, yes in zip(paths, jax.tree.leaves(selector(params)), strict=True):
                    if yes:
                        rules.setdefault(path, of(inner))
            return lambda place: rules[place.path](place) if place.path in rules else None

        chosen = of(self.formats)
        return lambda place: None if math.prod(place.shape) < self.min_size else format_of(chosen(place))

    def _check_fields(self, params: Any) -> None:
        """Raises if `formats` names a field that no state inside has."""
        rows = describe(self.inner, params).rows
        known = {row.field for row in rows if row.path or row.kind == per_param.kind} | set(_declared(self.inner))
        wrong = [field for field in _fields(self.formats) if field not in known]
        if wrong and known:
            raise ValueError(
                f"stored: formats names {wrong[0]!r}, but no state inside has a field of that name with an array "
                f"per parameter; there are: {', '.join(sorted(known))}."
            )

    def _arguments(self) -> Any:
        for name, value in super()._arguments():
            yield name, _shown(value) if name == "formats" else value


def _declared(tx: Any) -> Iterator[str]:
    """Yields the fields per parameter that the states of `tx` and of the transformations inside it can have."""
    slots = {} if getattr(tx, "State", None) is None else declared(tx.State)
    yield from (name for name, slot in slots.items() if isinstance(slot, PerLeaf))
    if isinstance(tx, Composite):
        yield from (name for child in tx.children().values() for name in _declared(child))


def _fields(formats: Any) -> list[str]:
    """Returns the names of fields in `formats`."""
    if not isinstance(formats, tuple):
        return []
    return [name for key, value in formats for name in ([key] if isinstance(key, str) else _fields(value))]


def _shown(formats: Any) -> Any:
    """Returns formats as the user wrote them: a dict by field, or a list of rules."""
    if not isinstance(formats, tuple):
        return formats
    if all(isinstance(key, str) for key, _ in formats):
        return dict(formats)
    return [(key, _shown(value)) for key, value in formats]


def _packed(form: Format, place: Place, x: Array) -> Packed:
    where = f"{place.field} at {place.path or '(the tree itself)'}"
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"stored: {where} is complex, but formats store real numbers only. Leave the field out of formats, or wrap "
            "the transformation in gx.split_real_and_imaginary."
        )
    if place.slot is not None and not place.slot.signed:
        form = form.unsigned()
    elif not getattr(form, "signed", True):
        raise ValueError(
            f"stored: {where} can be negative, but {form} stores no negative numbers. Use 'int8' or 'int4' for it."
        )
    return Packed.of(form, x, f"{place.link} {place.field} {place.path}")
