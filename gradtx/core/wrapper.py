"""Transformations around another transformation, `inner`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from gradtx.core.engine import resolve
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child

__all__ = ["Wrapper"]


def _check_inner(who: str, name: str, value: Any) -> GradientTransformation:
    del name
    return as_transformation(who, value)


class Wrapper(GradientTransformation):
    """A transformation around `inner`; subclasses define `init` and `update`.

    Class arguments:
      state: the NamedTuple class of the state, one of whose fields is `inner_state`; by default the state is the
        inner's.
      takes: extra arguments of `update` that the wrapper itself uses.
    """

    State: ClassVar[type[Any] | None] = None

    inner: Any = child(check=_check_inner)

    def __init_subclass__(cls, *, state: type[Any] | None = None, takes: tuple[str, ...] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.State = state or cls.State
        cls.extra_args |= frozenset(takes)

    def _accepts(self, name: str) -> bool:
        return super()._accepts(name) or self.inner._accepts(name)

    def _begin(self, state: Any, extra: Mapping[str, Any]) -> None:
        """Raises unless the state and the extra arguments are those of this wrapper."""
        self._check_extra(extra)
        if self.State is not None:
            self._check_state(state, self.State)

    def _inner_update(self, updates: Any, inner_state: Any, params: Any, extra: Mapping[str, Any]) -> tuple[Any, Any]:
        return self.inner.update(updates, inner_state, params, **self.inner._used(extra))

    def _nearest(self, params: Any) -> Any:
        return self.inner._nearest(params)

    def _reduced(self, params: Any, grad: Any) -> Any:
        return self.inner._reduced(params, grad)

    def _within(self, state: Any) -> dict[str, Any]:
        """The fields that are transformations, each with its part of the state, or None if there is none."""
        return {"inner": state if state is None or self.State is None else state.inner_state}

    def _own(self) -> list[str]:
        """The names of the wrapper's own hyperparameters."""
        return [name for name in self._dynamic if name not in self._within(None)]

    def _at(self, count: Any) -> Self:
        """A copy whose own hyperparameters are the numbers of step `count`."""
        return self._filled(self._own(), [resolve(self, name, count) for name in self._own()])

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        own = self._own()
        yield from ((name, value) for name, value in super()._hyperparameters(state) if name in own)
        for field, part in self._within(state).items():
            yield from ((f"{field}.{name}", value) for name, value in getattr(self, field)._hyperparameters(part))
