"""Frozen values that are JAX pytrees: the base of every transformation and schedule.

A subclass of `Value` is a frozen dataclass whose fields are of two kinds. Dynamic fields (`core.hyper.hyper`,
`child`) are pytree children: numbers, arrays, other values. All others (`flag`, `dtype`, `static`) are static: they
belong to the tree's structure, must be hashable, and a change retraces. The repr (which evaluates to an equal
value), equality, the hash, `replace`, pickling and copying follow from the fields.

Equality and hash never read an array's contents: numbers compare by value, arrays by identity.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx import checks, leaf
from gradtx.core.constructor import called
from gradtx.frozen import Frozen, fields

__all__ = ["Value", "child", "choice", "dtype", "entries", "flag", "function", "integer", "per_leaf", "seed", "static"]

_DYNAMIC = "gradtx.dynamic"
_CHECK = "gradtx.check"
EACH = "gradtx.each"


def field(check: Callable[[str, str, Any], Any] | None, *, dynamic: bool = False, **options: Any) -> Any:
    """Declares a dataclass field; `check(who, name, value)` raises or returns the value to store."""
    more = options.pop("metadata", {})
    return dataclasses.field(**options, metadata={_DYNAMIC: dynamic, _CHECK: check, **more})


def child(default: Any = dataclasses.MISSING, *, check: Callable[[str, str, Any], Any] | None = None) -> Any:
    """Declares a dynamic field that holds other values, or a tuple of them."""
    return field(check, dynamic=True, default=default)


def static(
    default: Any = dataclasses.MISSING,
    *,
    check: Callable[[str, str, Any], Any] | None = None,
    kw_only: bool = False,
) -> Any:
    """Declares a static field that holds a function or another hashable object.

    Args:
      default: The default of the field; none by default, so that the argument is required.
      check: A function `(who, name, value)` that raises or returns the value to store. None by default.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(check, default=default, kw_only=kw_only)


def flag(default: bool, *, kw_only: bool = False) -> Any:
    """Declares a static field that is True or False.

    Args:
      default: The default of the field.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(checks.flag, default=default, kw_only=kw_only)


def integer(default: Any = dataclasses.MISSING, *, ge: int = 0, kw_only: bool = False) -> Any:
    """Declares a static field that holds an integer of 32 bits.

    Args:
      default: The default of the field; none by default, so that the argument is required.
      ge: The smallest integer that is allowed. 0 by default.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(partial(checks.integer, ge=ge), default=default, kw_only=kw_only)


def seed(default: int = 0) -> Any:
    """Declares a static field that holds an integer from which a random key is made."""
    return field(partial(checks.integer, ge=0, le=2**63 - 1), default=default)


def choice(default: Any, options: Sequence[Any], *, kw_only: bool = False) -> Any:
    """Declares a static field that holds one of several options.

    Args:
      default: The default of the field.
      options: The values that are allowed.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(partial(checks.choice, options=tuple(options)), default=default, kw_only=kw_only)


def dtype(default: Any = dataclasses.MISSING, *, kw_only: bool = False) -> Any:
    """Declares a static field that holds a floating-point dtype, or None for the method's own choice.

    Args:
      default: The default of the field; none by default, so that the argument is required.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(_check_dtype, default=default, kw_only=kw_only)


def per_leaf(
    each: Callable[[str, Any, Any], list[Any]],
    default: Any = None,
    *,
    check: Callable[[str, str, Any], Any] | None = None,
    kw_only: bool = False,
) -> Any:
    """Declares a static field of a rule that says something about each leaf, from its path, its shape or a tree.

    `update_leaf` gets the item of its leaf as a keyword argument with the name of the field.

    Args:
      each: A function `(who, value, params)` that returns one item for each leaf. Items that are arrays are traced;
        others must be hashable, and leaves with different items are compiled separately.
      default: The default of the field. None by default.
      check: A function `(who, name, value)` that raises or returns the value to store. None by default.
      kw_only: Whether the constructor takes the field by keyword only. False by default.
    """
    return field(check, default=default, kw_only=kw_only, metadata={EACH: each})


def function(who: str, name: str, value: Any) -> Any:
    """Checks a static field that holds a function."""
    if not callable(value):
        raise TypeError(f"{who}: {name} must be a function, got {checks.shown(value)}.")
    return value


def _check_dtype(who: str, name: str, value: Any) -> np.dtype | None:
    if value is None:
        return None
    try:
        found = jnp.dtype(value)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.inexact):
        raise TypeError(
            f"{who}: {name} must be a floating dtype such as 'float32' or jnp.bfloat16, or None, "
            f"got {checks.shown(value)}."
        )
    return found


if TYPE_CHECKING:  # for type checkers, which ask whether a field has a default
    from gradtx.core.composite import inner
    from gradtx.core.hyper import hyper, number
else:
    hyper = inner = number = field


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(
        field,
        child,
        static,
        flag,
        integer,
        seed,
        choice,
        dtype,
        per_leaf,
        hyper,
        inner,
        number,
    ),
)
class Value(Frozen):
    """A frozen dataclass that is a pytree; see the module's docstring."""

    _dynamic: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[dict[str, Callable[[str, str, Any], Any]]] = {}
    """The checks of the fields that have one, by field."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = fields(cls)
        cls._checks = {f.name: f.metadata[_CHECK] for f in own if f.metadata.get(_CHECK)}
        cls._dynamic = dynamic = tuple(f.name for f in own if f.metadata.get(_DYNAMIC))
        fixed = tuple(f.name for f in own if not f.metadata.get(_DYNAMIC))

        def flatten(value: Value) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            of = value.__dict__
            return tuple(_as_leaf(of[name]) for name in dynamic), tuple(of[name] for name in fixed)

        def flatten_with_keys(value: Value) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
            children, aux = flatten(value)
            return tuple(zip(map(jax.tree_util.GetAttrKey, dynamic), children, strict=True)), aux

        def unflatten(aux: tuple[Any, ...], children: Any) -> Value:
            value = object.__new__(cls)  # without checks, because JAX puts arbitrary objects in place of leaves
            value.__dict__.update(zip(dynamic, children, strict=True))
            value.__dict__.update(zip(fixed, aux, strict=True))
            return value

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)

    def __post_init__(self) -> None:
        who = called(self)
        for name, check in self._checks.items():
            self.__dict__[name] = check(who, name, getattr(self, name))

    @classmethod
    def check_field(cls, field: str, value: Any, *, who: str, name: str) -> Any:
        """Checks `value` as for the field of this class, in the name of an argument that is passed on to it."""
        return cls._checks[field](who, name, value)

    # --- equality, hash, repr

    def _identity(self) -> tuple[Any, ...]:
        leaves, treedef = jax.tree.flatten(self)
        return treedef, tuple(x if leaf.is_number(x) else id(x) for x in leaves)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        """Yields the constructor's arguments that rebuild this value: (keyword or None, value)."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.metadata.get(_DYNAMIC) or value != f.default:
                yield f.name, value

    def __repr__(self) -> str:
        arguments = [(f"{key}=" if key else "") + show(value) for key, value in self._arguments()]
        name = type(self).__name__
        line = f"{name}({', '.join(arguments)})"
        if len(line) <= 110 and "\n" not in line:
            return line
        return f"{name}(\n" + "".join(_indent(a) + ",\n" for a in arguments) + ")"

    # --- parts and replacement

    def _filled(self, names: Sequence[str], values: Sequence[Any]) -> Self:
        """Returns a copy with other dynamic fields and without checks, for traced values."""
        value = object.__new__(type(self))
        value.__dict__.update(self.__dict__)
        value.__dict__.update(zip(names, values, strict=True))
        return value

    def _parts(self) -> dict[str, Any]:
        """Returns the fields by name; a chain returns its links by name instead."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(**parts)

    def _names(self) -> Iterator[str]:
        for name, part in self._parts().items():
            yield name
            if isinstance(part, Value):
                yield from (f"{name}.{inner}" for inner in part._names())

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed; new values are checked as in the constructor.

        Args:
          **changes: The new values by the name of the field. A field of an inner value is named as
            `hyperparameters` names it, or by the last part of that name if only one inner value has such a field.

        >>> import gradtx as gx
        >>> gx.sgd(0.1).replace(learning_rate=0.01)
        chain(scale_by_learning_rate(learning_rate=0.01))
        >>> gx.chain(gx.trace(0.9), gx.trace(0.5)).replace(**{"trace[1].decay": 0.8})
        chain(trace(decay=0.9, dampening=0.0), trace(decay=0.8, dampening=0.0))

        Raises:
          ValueError: no field, or more than one, has that name; or the new value is out of range.
        """
        parts = self._parts()
        for name, value in changes.items():
            full = self._find(name)
            # The name of a part may have dots in it.
            head = max((part for part in parts if f"{full}.".startswith(f"{part}.")), key=len)
            rest = full[len(head) + 1 :]
            parts[head] = parts[head].replace(**{rest: value}) if rest else value
        return self._with_parts(parts)

    def _find(self, name: str) -> str:
        names = list(self._names())
        if name in names:
            return name
        matches = [n for n in names if n.endswith("." + name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ValueError(
                f"{type(self).__name__}.replace: {name!r} is ambiguous here: it may be {', '.join(matches)}. "
                f"Write one of these in full, as in tx.replace(**{{{matches[0]!r}: value}})."
            )
        raise ValueError(
            f"{type(self).__name__}.replace: nothing is named {name!r} here; there are: {', '.join(names)}. "
            "Write one of these, or the last part of its name."
        )


def _as_leaf(x: Any) -> Any:
    """Converts Python integers to floats, so that `jax.grad` can differentiate with respect to a value."""
    if type(x) is int:
        return float(x)
    if type(x) is tuple:
        return tuple(map(_as_leaf, x))
    return x


def entries(x: Value) -> dict[str, Any]:
    """Returns what a value was made of, by name: its static fields and its parts."""
    return {f.name: getattr(x, f.name) for f in fields(x) if f.name not in x._dynamic} | x._parts()


def show(x: Any) -> str:
    """Returns `x` as an expression; traced and large arrays only by dtype and shape."""
    if isinstance(x, np.dtype):
        return repr(x.name)
    if isinstance(x, jax.Array) and not isinstance(x, Tracer) and x.size <= 8 and x.is_fully_addressable:
        return f"jnp.asarray({np.asarray(x).tolist()}, dtype={x.dtype.name!r})"
    if isinstance(x, (jax.Array, np.ndarray)):
        return checks.shown(x)
    if inspect.isfunction(x) and x.__module__.startswith("gradtx."):
        return f"tree.{x.__name__}" if x.__module__.startswith("gradtx.tree.") else x.__name__
    if type(x) is float and math.isinf(x):
        return f"float('{x}')"
    if type(x) is dict:
        return "{" + ", ".join(f"{key!r}: {show(value)}" for key, value in x.items()) + "}"
    if type(x) is list:
        return "[" + ", ".join(map(show, x)) + "]"
    if type(x) is tuple:
        return "(" + ", ".join(map(show, x)) + ("," if len(x) == 1 else "") + ")"
    return repr(x)


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.split("\n"))
