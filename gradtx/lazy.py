"""Imports that are delayed until a name is used, so that `import gradtx` takes almost no time.

    with lazily(__name__):
        from gradtx.core.chain import chain as chain

Editors and type checkers read these lines like any import. Python only notes them, and imports the module at the
first use of `gradtx.chain`. (From Python 3.15 on the language has this: `lazy from gradtx.core.chain import chain`,
PEP 810.)
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections.abc import Generator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

__all__ = ["lazily"]


class _Lazy(ModuleType):
    """A package that imports the objects in `_modules`, a dict from name to module, when they are used."""

    _modules: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        module = self._modules.get(name)
        if module is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if module == self.__name__:  # a module of the package, which the import system makes an attribute
            return importlib.import_module(f"{module}.{name}")
        value = getattr(importlib.import_module(module), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dict__, *self._modules})

    @property
    def __dict__(self) -> dict[str, Any]:
        """The value of `vars(gradtx)`: all names with their objects, as `eval(repr(tx), vars(gradtx))` needs them."""
        for name in self._modules:
            getattr(self, name)
        return super().__dict__


@contextlib.contextmanager
def lazily(package: str) -> Generator[Mapping[str, str]]:
    """Notes the imports of its block, `from module import name as name`, and lets the package do them when they are
    used.

    Yields the table that it fills, from each name to its module.

    Args:
      package: The name of the package, `__name__`.
    """
    module = sys.modules[package]
    namespace, real_import = vars(module), builtins.__import__
    modules: dict[str, str] = {}

    def note(name: str, *args: Any, **kwargs: Any) -> Any:
        if not args or args[0] is not namespace:  # another thread imports something
            return real_import(name, *args, **kwargs)
        names = args[2]
        modules.update(dict.fromkeys(names, name))
        return SimpleNamespace(**dict.fromkeys(names))

    builtins.__import__ = note
    try:
        yield modules
    finally:
        builtins.__import__ = real_import
    for name in modules:
        del namespace[name]  # the import statement has stored a placeholder
    namespace["_modules"] = modules
    module.__class__ = _Lazy
