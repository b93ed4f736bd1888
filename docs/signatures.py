"""An extension of griffe, which reads the sources for the API reference.

- The constructors of transformations are generated from their fields when Python makes the classes, so they are not in
  the sources. The extension takes their signatures from the imported classes.
- Examples (`>>>`) in the text of a docstring become blocks of code.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import griffe

import gradtx as gx
from gradtx.compat.torch import lr_scheduler

__all__ = ["Docstrings"]

EMPTY = inspect.Parameter.empty


class Docstrings(griffe.Extension):
    """Shows gradtx's classes and examples as users know them."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        if pkg.path != "gradtx":
            return
        public = {name: getattr(gx, name) for name in gx.__all__}
        public |= {f"rules.{name}": item for name, item in vars(gx.rules).items()}
        public |= {f"compat.torch.lr_scheduler.{name}": getattr(lr_scheduler, name) for name in lr_scheduler.__all__}
        for name, item in public.items():
            if inspect.isclass(item):
                set_constructor(pkg, name, item)


def fenced(text: str) -> str:
    """Returns the docstring with examples (`>>>`) as blocks of code, also below `Example:`."""

    def block(match: re.Match[str]) -> str:
        return f"\n\n{match[1]}```pycon\n{match[0].strip(chr(10))}\n{match[1]}```\n"

    pattern = r"(?:^|(?<=\n))\n?( *)>>> .*?(?=\n\n|\Z)"
    return re.sub(pattern, block, inspect.cleandoc(text), flags=re.DOTALL).strip()


def shown(value: object) -> str:
    """Returns a default as users would write it."""
    return getattr(value, "__name__", "...") if " at 0x" in repr(value) else repr(value)


def set_constructor(pkg: griffe.Module, name: str, item: type) -> None:
    """Gives a class of the package the parameters that `inspect.signature` finds."""
    try:
        signature = inspect.signature(item)
        target: Any = pkg[name].final_target
    except (KeyError, ValueError, griffe.AliasResolutionError):
        return
    if not isinstance(target, griffe.Class):
        return
    parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for parameter in signature.parameters.values():
        kind = getattr(griffe.ParameterKind, parameter.kind.name.lower())
        default = None if parameter.default is EMPTY else shown(parameter.default)
        parameters.append(griffe.Parameter(parameter.name, kind=kind, default=default))
    target.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
