"""A function with the data that follow its first argument, as one value: `f(x, *data)` as a function of x.

A rule that takes a function of the user's, such as the projection onto a set, keeps it in a field like this, so that
the set's radius or bounds are hyperparameters: leaves of the value, numbers, arrays or schedules, that may be traced.
The function is static. In the rule's constructor, its repr, `hyperparameters` and `replace` the function and each of
its data stand by themselves, the data under the function's own names for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.constructor import called
from gradtx.core.hyper import Limits, Resolvable, Schedule
from gradtx.core.value import Value, child, function, static

__all__ = ["Partial", "WithFunction"]

_ANY = Limits(infinite=True)


def _check_data(who: str, name: str, value: Any) -> tuple[Any, ...]:
    del who, name
    return tuple(value)


class Partial(Resolvable):
    """`fn(x, *data)` as a function of x."""

    fn: Any = static(check=function)
    data: tuple[Any, ...] = child(check=_check_data)

    def __call__(self, x: Any, axis: int | None = None, **given: Any) -> Any:
        """The function of `x`; with `axis`, of every vector along that axis by itself."""
        if axis is None or jnp.ndim(x) < 2:
            return self.fn(x, *self.data, **given)
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(
                f"{_name(self.fn)}: an array of shape {x.shape} has no axis {axis}. Choose one that all leaves "
                "have, or leave the others out by a mask."
            )
        last = jnp.moveaxis(x, axis, -1)
        rows = last.reshape(-1, last.shape[-1])
        found = jax.vmap(lambda row: self.fn(row, *self.data, **given))(rows)
        return jnp.moveaxis(found.reshape(last.shape), -1, axis)

    @property
    def constant(self) -> bool:
        """Whether the data are Python numbers, known when a rule is compiled."""
        return all(map(leaf.is_number, self.data))

    def at(self, count: Any) -> Self:
        """The function with its data as they are at a step: numbers, and arrays in float32 or wider."""
        return self._filled(["data"], [tuple(_resolved(x, count) for x in self.data)])

    def names(self) -> list[str]:
        """The function's names for its data."""
        try:
            known = list(inspect.signature(self.fn).parameters)[1:]
        except (TypeError, ValueError):
            known = []
        spare = (f"data_{i}" for i in range(len(known), len(self.data)))
        return [*known, *spare][: len(self.data)]

    def takes(self, name: str) -> bool:
        """Whether the function has an argument of this name."""
        try:
            return name in inspect.signature(self.fn).parameters
        except (TypeError, ValueError):
            return False


def _resolved(x: Any, count: Any) -> Any:
    if isinstance(x, Schedule):
        x = x(count)
    if leaf.is_number(x):
        return x
    return jax.tree.map(_wide, x)


def _wide(x: Any) -> Array:
    x = jnp.asarray(x)
    return x.astype(leaf.accumulator_dtype(jnp.promote_types(x.dtype, jnp.float16)))


def _name(fn: Any) -> str:
    return getattr(fn, "__name__", repr(fn))


class WithFunction(Value):
    """A value whose field named `_function` is a `Partial`, given to the constructor as `(function, *data, ...)`."""

    _function: ClassVar[str]

    def _set(self, fn: Any, data: tuple[Any, ...], **fields: Any) -> None:
        """What the constructor does: sets all fields and checks them."""
        who = called(self)
        function(who, self._function, fn)
        names = Partial(fn, data).names()
        checked = [x if _is_tree(x) else _ANY.check(who, name, x) for name, x in zip(names, data, strict=True)]
        for name, value in {self._function: Partial(fn, tuple(checked)), **fields}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _bound(self) -> Partial:
        return getattr(self, self._function)

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        own = super()._hyperparameters(state)  # pyright: ignore[reportAttributeAccessIssue]
        yield from ((name, value) for name, value in own if name != self._function)
        for name, value in zip(self._bound().names(), self._bound().data, strict=True):
            yield name, value(state.count) if state is not None and isinstance(value, Schedule) else value

    def _parts(self) -> dict[str, Any]:
        bound = self._bound()
        return {**super()._parts(), self._function: bound.fn, **dict(zip(bound.names(), bound.data, strict=True))}

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        parts = dict(parts)
        data = [parts.pop(name) for name in self._bound().names()]
        make: Any = type(self)
        return make(parts.pop(self._function), *self._between(parts), *data, **parts)

    def _between(self, parts: dict[str, Any]) -> list[Any]:
        """The constructor's arguments between the function and its data, taken from `parts`."""
        del parts
        return []

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        parts = {name: value for name, value in super()._arguments() if name is not None and name != self._function}
        yield None, self._bound().fn
        yield from ((None, value) for value in (*self._between(parts), *self._bound().data))
        yield from parts.items()


def _is_tree(x: Any) -> bool:
    """Whether an item of the data is a tree of arrays, and not one number, array, schedule or function."""
    return isinstance(x, (dict, list, tuple)) or (checks.paths(x) != [""] and not isinstance(x, Value))
