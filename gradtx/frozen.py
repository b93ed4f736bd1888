"""Frozen dataclasses without generated code.

For every class, `dataclasses.dataclass` writes the source of `__init__`, `__setattr__` and others and compiles it,
which takes half a millisecond. Here `dataclasses` only collects the fields, and the methods are written once,
below. What depends on the fields works as for any dataclass: `dataclasses.fields` and `replace`,
`inspect.signature`, `match`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NoReturn, dataclass_transform

__all__ = ["Frozen", "fields", "wrong_call"]


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Frozen:
    """A class whose subclasses are frozen dataclasses: they compare by their fields, and are hashable if the fields
    are.

    A subclass that defines `__init__` keeps its own, and sets the fields by `object.__setattr__`. Class arguments:
      kw_only: True if all fields of the class itself must be passed by name.
    """

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        super().__init_subclass__()
        made = "__init__" not in vars(cls)
        if made:
            cls.__signature__ = _Signature(cls)  # first: `dataclass` reads it for a class without a docstring
        dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
        _check_fields(cls)
        if made:
            cls.__init__ = _initializer(cls)

    def __post_init__(self) -> None:
        """Runs after the fields are set; a subclass may override it to check the fields."""

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))
        return f"{type(self).__name__}({', '.join(shown)})"


def fields(x: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Returns the dataclass fields of a frozen object or class."""
    return dataclasses.fields(x)


def _values(x: Any) -> tuple[Any, ...]:
    return tuple(getattr(x, f.name) for f in fields(x))


def _check_fields(cls: Any) -> None:
    """Raises for a field without a default after one with a default, and for field options that have no effect here."""
    earlier = None
    for f in fields(cls):
        if f.default_factory is not MISSING or not f.init:
            raise TypeError(f"{cls.__name__}: field {f.name!r} has a default_factory or init=False: give it a default.")
        if f.default is not MISSING and not f.kw_only:
            earlier = f.name
        elif earlier and not f.kw_only:
            raise TypeError(
                f"{cls.__name__}: field {f.name!r} has no default, but comes after {earlier!r}, which has one. Give it "
                "a default, too, or make it kw_only=True."
            )


def _initializer(cls: Any) -> Callable[..., None]:
    """Returns the `__init__` of a class, which binds arguments to fields as a function call binds them to
    parameters.
    """
    defaults = {f.name: f.default for f in fields(cls)}
    required = {name for name, default in defaults.items() if default is MISSING}
    positional = [f.name for f in fields(cls) if not f.kw_only]

    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        """Sets the fields; the signature of the class has their names and order."""
        given = dict(zip(positional, args, strict=False), **kwargs)
        # `given` is shorter if a name is given twice, or if there are too many positional arguments.
        if len(given) < len(args) + len(kwargs) or not required <= given.keys() <= defaults.keys():
            raise wrong_call(cls, args, kwargs) or AssertionError("the call is right")
        self.__dict__.update(defaults)
        self.__dict__.update(given)
        self.__post_init__()

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def wrong_call(made: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TypeError | None:
    """Returns the error for arguments that a function or a class does not take; None if it takes them."""
    signature = inspect.signature(made)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        problem, known = f"{error}.", signature.parameters
        if unknown := [name for name in kwargs if name not in known]:
            meant = _meant(unknown[0], known)
            problem = f"got an unexpected keyword argument {unknown[0]!r}." + (
                f" Did you mean {meant}?" if meant else ""
            )
        return TypeError(f"{made.__name__}: {problem} Its arguments are: {', '.join(known)}.")
    return None


def _meant(name: str, known: Collection[str]) -> str | None:
    """Returns the argument that an unknown name probably stands for: `learning_rate` for `lr`, `b1` for `beta1`."""
    initials = {"".join(word[0] for word in other.split("_")): other for other in known}
    return initials.get(name) or next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.55)), None)


class _Signature:
    """The signature of a class with a generated `__init__`, made when `inspect` or `help` asks for it."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if instance is not None or owner is not self.cls:  # an instance that can be called, or a subclass
            raise AttributeError("__signature__")
        return inspect.Signature(
            [
                inspect.Parameter(
                    f.name,
                    inspect.Parameter.KEYWORD_ONLY if f.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if f.default is MISSING else f.default,
                    annotation=f.type,
                )
                for f in sorted(fields(owner), key=lambda f: bool(f.kw_only))
            ],
            return_annotation=None,
        )
