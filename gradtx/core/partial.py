"""Stores a user's function together with its data, so that the data are hyperparameters.

`project(ball, 2.0)`, with `def ball(x, radius)`, stores `Partial(ball, (2.0,))`: the function of x that returns
`ball(x, 2.0)`. The function is static. The radius is a hyperparameter: a number, an array or a schedule, which may be
traced. It has the name that the function gives it:

    gradtx.hyperparameters(tx)    {'radius': 2.0}
    tx.replace(radius=3.0)        project(ball, 3.0)

`Partial` is the function with its data; `WithFunction` is the base class of the rules that have such a field.
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
from gradtx.types import State

__all__ = ["Partial", "WithFunction"]

_ANY_NUMBER = Limits(infinite=True)  # infinite ones too, such as a bound


def _as_tuple(who: str, name: str, value: Any) -> tuple[Any, ...]:
    """Returns the data as they are stored; `WithFunction._set` has checked each of them."""
    del who, name
    return tuple(value)


class Partial(Resolvable):
    """The function of x that returns `fn(x, *data)`."""

    fn: Any = static(check=function)
    data: tuple[Any, ...] = child(check=_as_tuple)

    def __call__(self, x: Any, axis: int | None = None, **given: Any) -> Any:
        """Applies the function to `x`; with `axis`, to each vector along it, if there are several."""
        if axis is None or jnp.ndim(x) < 2:
            return self.fn(x, *self.data, **given)
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(
                f"{_function_name(self.fn)}: an array of shape {x.shape} has no axis {axis}. Choose one that all "
                "leaves have, or leave the others out by a mask."
            )
        last = jnp.moveaxis(x, axis, -1)
        rows = last.reshape(-1, last.shape[-1])
        found = jax.vmap(lambda row: self.fn(row, *self.data, **given))(rows)
        return jnp.moveaxis(found.reshape(last.shape), -1, axis)

    @property
    def constant(self) -> bool:
        """Whether all data are Python numbers, so that they are known when a rule is compiled."""
        return all(map(leaf.is_number, self.data))

    def at(self, count: Any) -> Self:
        """Returns a copy with the data of step `count`: schedules are called, and arrays are in float32 or wider."""
        return self._filled(["data"], [tuple(_resolved(x, count) for x in self.data)])

    def names(self) -> list[str]:
        """Returns the names of the function's arguments after the first; `data_i` for item i if the signature has
        none.
        """
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
    # Promoting with float16 makes integers float16, and `accumulator_dtype` makes that float32.
    return x.astype(leaf.accumulator_dtype(jnp.promote_types(x.dtype, jnp.float16)))


def _function_name(fn: Any) -> str:
    return getattr(fn, "__name__", repr(fn))


class WithFunction(Value):
    """A value whose constructor is `(function, *between, *data, **options)`.

    It stores the function and the data as a `Partial`, in the field named by `_function`. `between` are other fields
    that are passed by position before the data. In `project(ball, 2.0, axis=-1)` nothing is between, the data are
    (2.0,), and `axis` is an option. In `proximal_gradient(prox, 0.1, *data)` the learning rate is between. It is a
    mixin, and comes before the base of the rule: `class project(WithFunction, Layerwise)`.
    """

    _function: ClassVar[str]

    def _set(self, fn: Any, data: tuple[Any, ...], **fields: Any) -> None:
        """Sets all fields and checks them: the subclass's `__init__` calls it with its own arguments."""
        who = called(self)
        function(who, self._function, fn)
        names = Partial(fn, data).names()
        checked = [x if _is_tree(x) else _ANY_NUMBER.check(who, name, x) for name, x in zip(names, data, strict=True)]
        for name, value in {self._function: Partial(fn, tuple(checked)), **fields}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _bound(self) -> Partial:
        """Returns the function with its data."""
        return getattr(self, self._function)

    # --- The hooks of `Value`: the function and its data count as arguments of their own.

    def _hyperparameters(self, state: State) -> Iterator[tuple[str, Any]]:
        own = super()._hyperparameters(state)  # pyright: ignore[reportAttributeAccessIssue]
        yield from ((name, value) for name, value in own if name != self._function)
        for name, value in zip(self._bound().names(), self._bound().data, strict=True):
            if state is not None and isinstance(value, Schedule):
                value = value(state.count)
            yield name, value

    def _parts(self) -> dict[str, Any]:
        bound = self._bound()
        return {**super()._parts(), self._function: bound.fn, **dict(zip(bound.names(), bound.data, strict=True))}

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        parts = dict(parts)
        fn = parts.pop(self._function)
        data = [parts.pop(name) for name in self._bound().names()]
        between = self._pop_between(parts)
        make: Any = type(self)
        return make(fn, *between, *data, **parts)

    def _pop_between(self, parts: dict[str, Any]) -> list[Any]:
        """Removes from `parts` the arguments between the function and its data, and returns them in order."""
        del parts
        return []

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        parts = {name: value for name, value in super()._arguments() if name is not None and name != self._function}
        between = self._pop_between(parts)
        yield from ((None, value) for value in (self._bound().fn, *between, *self._bound().data))
        yield from parts.items()


def _is_tree(x: Any) -> bool:
    """Whether an item of the data is a tree of arrays, and not a single number, array, schedule or function."""
    # One leaf has the paths [""]. An object of the user's own pytree class has others. A schedule, which is a `Value`,
    # has others too, but counts as one item.
    return isinstance(x, (dict, list, tuple)) or (checks.paths(x) != [""] and not isinstance(x, Value))
