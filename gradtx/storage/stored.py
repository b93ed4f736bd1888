"""State in another format between steps: it is loaded before a rule, and stored after it.

    state -> decode -> step of the inner transformation -> encode -> state

`stored` packs what `init` makes, and that is all: the engine loads and stores packed slots leaf by leaf
(`core/packed.py`), so that no rule, and no wrapper between, knows of it.
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

    Take it where the state does not fit into memory. Each array is loaded before the rule and stored after it, in the
    loop that computes the step, so that the method computes in float32 as before. docs/storage.md says which format to
    take.

    Args:
      inner: The transformation.
      formats: One format for all fields that hold an array per parameter; or a dict from the name of a field to its
        format, as in `{"mu": "int8", "nu": "uint8"}`; or rules `(selector, formats)`, of which the first that matches a
        parameter decides, with None to leave it as it is. A format is a name ('bfloat16', 'float16', 'float8_e4m3fn',
        'float8_e5m2', 'int8', 'uint8', 'int4', 'uint4', 'bf16+8', 'bf16+16' or 'host'), a value such as
        `gx.storage.stochastic("bfloat16")`, or one of your own, a subclass of `gx.storage.Format`. Fields that are
        never negative take a format's unsigned form.
      min_size: Arrays with fewer entries (default 4096) stay as they are: they cost little, and often matter most.

    `gx.describe(tx, params)` shows what is stored how. `gx.convert_state` makes the state of another format.

    >>> import jax, gradtx as gx
    >>> params = {"w": jax.ShapeDtypeStruct((1000, 1000), "float32")}
    >>> gx.describe(gx.adam(1e-3), params).nbytes, gx.describe(gx.stored(gx.adam(1e-3), "bfloat16"), params).nbytes
    (8000008, 4000008)

    Raises:
      TypeError: A format is neither a name nor a `Format`. `init`: an array is complex.
      ValueError: `init`: the state has no field of that name with an array per parameter; `uint8` or `uint4` is asked
        for a field that can be negative.
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
        if not self.reshapes and owner.like is not UNKNOWN:  # the state of a function of the user's may change
            check_made_by(owner, self, state)

    def _chooser(self, params: Any) -> Callable[[Place], Format | None]:
        """The format of what stands in a place; None for what stays as it is."""
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
        """Raises where formats name a field that no state inside has."""
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
    """The fields with something per parameter that the states of `tx` and of what is inside can have."""
    slots = {} if getattr(tx, "State", None) is None else declared(tx.State)
    yield from (name for name, slot in slots.items() if isinstance(slot, PerLeaf))
    if isinstance(tx, Composite):
        yield from (name for child in tx.children().values() for name in _declared(child))


def _fields(formats: Any) -> list[str]:
    """The fields that formats name."""
    if not isinstance(formats, tuple):
        return []
    return [name for key, value in formats for name in ([key] if isinstance(key, str) else _fields(value))]


def _shown(formats: Any) -> Any:
    """Formats as the user wrote them: a dict by field, a list of rules."""
    if not isinstance(formats, tuple):
        return formats
    if all(isinstance(key, str) for key, _ in formats):
        return dict(formats)
    return [(key, _shown(value)) for key, value in formats]


def _packed(form: Format, place: Place, x: Array) -> Packed:
    where = f"{place.field} at {place.path or '(the tree itself)'}"
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"stored: {where} is complex, and formats hold real numbers. Leave the field out of formats, or use "
            "gx.split_real_and_imaginary."
        )
    if place.slot is not None and not place.slot.signed:
        form = form.unsigned()
    elif not getattr(form, "signed", True):
        raise ValueError(
            f"stored: {where} can be negative, and {form} holds no negative numbers. Take 'int8' or 'int4' for it."
        )
    return Packed.of(form, x, f"{place.link} {place.field} {place.path}")
