"""A transformation written as JSON into a checkpoint, and how the one of a run differs from it.

A value becomes {"is": its class, "of": {field: ...}}, and everything that is no value the text by which it is compared.
Nothing of a checkpoint is evaluated.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gradtx import checks, leaf
from gradtx.core.chain import chain
from gradtx.core.frozen_tree import FrozenTree
from gradtx.core.value import Value, entries, show
from gradtx.frozen import fields

__all__ = ["check_same", "written"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def written(x: Any) -> Any:
    """Converts a transformation, or a field of one, to JSON."""
    parts = _parts(x)
    if parts is None:
        return _text(x)
    return {"is": type(x).__name__, "of": {name: written(part) for name, part in parts.items()}}


def check_same(who: str, saved: Any, tx: Any, changed: Iterable[str]) -> None:
    """Raises a ValueError that names the first field in which `tx` differs, except the fields in `changed`."""
    changed = (changed,) if isinstance(changed, str) else tuple(changed)
    known = [*_paths(saved), *_paths(written(tx))]
    for name in changed:
        if not any(_is_in(name, path) for path in known):
            raise ValueError(
                f"{who}: changed names {name!r}, but neither the transformation nor the checkpoint has it; there are: "
                f"{', '.join(dict.fromkeys(known))}."
            )
    for path, before, now in _differences(saved, tx, ""):
        if not any(_is_in(name, path) for name in changed):
            raise ValueError(
                f"{who}: the checkpoint belongs to another transformation: {path or 'the transformation'} is {before} "
                f"in the checkpoint, and {now} here. Build the transformation that it was saved with{_advice(path)}."
            )


def _advice(path: str) -> str:
    name = path.rpartition(".")[2]
    return f"; or, if the change is meant, name the field: changed=({name!r},)" if name else ""


def _parts(x: Any) -> dict[str, Any] | None:
    """Returns the fields of a transformation or the items of a container by name; None for any other object."""
    if isinstance(x, FrozenTree):
        return {"tree": x.tree}
    if isinstance(x, Value):
        return entries(x)
    if isinstance(x, dict):
        return {str(key): item for key, item in x.items()}
    return {str(i): item for i, item in enumerate(x)} if isinstance(x, (tuple, list)) else None


def _text(x: Any) -> str:
    if leaf.is_number(x):
        return repr(float(x))
    if isinstance(x, (jax.Array, np.ndarray)):
        content = "elsewhere, too"
        if getattr(x, "is_fully_addressable", True):
            content = np.asarray(x).tolist() if x.size <= 8 else f"crc32 {zlib.crc32(np.asarray(x).tobytes()):08x}"
        return f"{checks.shown(x)} {content}"
    name = getattr(x, "__qualname__", None)
    if name is not None:
        return f"{x.__module__}.{name}"
    return _ADDRESS.sub("", show(x))


def _differences(saved: Any, now: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Yields the differences between `saved` and `now`: path of the field, saved text, present text."""
    here, parts = written(now), _parts(now)
    if parts is None or isinstance(saved, str) or saved["is"] != here["is"]:
        if saved != here:
            yield path, _brief(saved), _brief(here)
        return
    before = saved["of"]
    if isinstance(now, chain) and list(before) != list(parts):
        yield path, f"a chain of {_listed(before)}", f"one of {_listed(parts)}"
        return
    for name in dict.fromkeys([*before, *parts]):
        place = f"{path}.{name}" if path else name
        if name not in parts:
            yield place, _brief(before[name]), "not a field"
        elif name in before:
            yield from _differences(before[name], parts[name], place)
        elif here["of"][name] not in _defaults(now, name):  # a field that is younger than the checkpoint
            yield place, "not a field", _brief(here["of"][name])


def _defaults(x: Any, name: str) -> list[Any]:
    found = [f.default for f in fields(x) if f.name == name] if isinstance(x, Value) else []
    return [written(default) for default in found]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no links"


def _brief(node: Any) -> str:
    """Formats JSON made by `written` for an error message."""
    if isinstance(node, str):
        return checks.cut(node, 80)
    inner = ", ".join(f"{name}={_brief(part)}" for name, part in node["of"].items())
    return f"{node['is']}({inner})" if len(inner) <= 80 else f"{node['is']}(...)"


def _paths(node: Any, path: Sequence[str] = ()) -> Iterator[str]:
    """Yields the dotted names of all fields in JSON made by `written`."""
    if path:
        yield ".".join(path)
    if not isinstance(node, str):
        for name, part in node["of"].items():
            yield from _paths(part, (*path, name))


def _is_in(name: str, path: str) -> bool:
    """Whether `name` is the full name, or the last component, of the field at `path` or of a field that contains it."""
    return f".{name}." in f".{path}."
