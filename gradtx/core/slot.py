"""The base class of all slots: how an array of a state begins, and its dtype. The kinds are in `core/slots.py`."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf, mesh
from gradtx.core.hyper import resolve
from gradtx.frozen import Frozen
from gradtx.types import Params

__all__ = ["PARAM", "Layout", "PerLeaf", "Slot"]

PARAM = "the parameter itself"
"""The start of a slot that begins as a copy of the parameter."""

Layout = tuple[tuple[int, int | None], ...]
"""For each axis of an array its length, and the axis of the parameter that it follows, or None if it follows none."""


class _Declaration(type):
    """Makes type checkers accept a slot as the value of the field that it declares."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Slot(Frozen, kw_only=True, metaclass=_Declaration):
    """Says how a field of a state relates to the parameters. `core/slots.py` has the kinds and explains the
    arguments.
    """

    kind: ClassVar[str] = ""
    may_copy: ClassVar[bool] = False
    """Whether the slot may begin as a copy of the parameter."""
    naming: ClassVar[tuple[str, ...]] = ("start", "dtype", "when")
    """The arguments that may be the name of a hyperparameter, field or method of the transformation."""
    start: Any = 0.0
    real: bool = False
    signed: bool = True
    dtype: Any = None
    when: str | None = None

    def __post_init__(self) -> None:
        known = leaf.is_number(self.start) or isinstance(self.start, (bool, str))
        if not known or (self.start == PARAM and not self.may_copy):
            raise TypeError(
                f"{type(self).__name__}: start must be a number, or the name of one of the transformation's "
                f"hyperparameters or methods, or in per_param PARAM for a copy of the parameter; got "
                f"{checks.shown(self.start)}."
            )

    def names(self) -> dict[str, str]:
        """Returns the arguments that name a hyperparameter, field or method of the transformation, with these names."""
        given = {argument: getattr(self, argument) for argument in self.naming}
        found = {argument: x for argument, x in given.items() if isinstance(x, str) and x not in (PARAM, "all")}
        return {argument: x for argument, x in found.items() if argument != "dtype" or not _is_dtype(x)}

    def present(self, owner: Any) -> bool:
        """Whether the state of this transformation has the slot."""
        return self.when is None or bool(getattr(owner, self.when))

    def dtype_of(self, owner: Any) -> Any:
        """Returns the dtype that is asked for, or None for the default."""
        named = isinstance(self.dtype, str) and not _is_dtype(self.dtype)
        return getattr(owner, self.dtype) if named else self.dtype

    def _start(self, owner: Any, params: Params) -> Any:
        if not isinstance(self.start, str):
            return self.start
        if self.start in owner._dynamic:
            return resolve(owner, self.start, 0)
        return getattr(owner.at(0), self.start)(params)


def _is_dtype(name: str) -> bool:
    try:
        jnp.dtype(name)
    except TypeError:
        return False
    return True


class PerLeaf(Slot):
    """A slot with something for each parameter."""

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | list[Layout] | None:
        """Returns the axes of the array, or of each array in a list, for a parameter of this shape; None for no
        array.
        """
        raise NotImplementedError

    def layout_for(self, owner: Any, p: Any, view: Any = None) -> Layout | list[Layout] | None:
        """Returns the layout for a parameter, of which only shape and dtype matter."""
        return self.layout(owner, checks.shape(p), view)

    def first(self, owner: Any, p: Any, view: Any = None) -> Any:
        """Returns the array before the first step, or a list of arrays, or None."""
        layout = self.layout_for(owner, p, view)
        if layout is None:
            return None
        if isinstance(layout, list):
            return [_placed(self._one(owner, p, part), p, part) for part in layout]
        return _placed(self._one(owner, p, layout), p, layout)

    def _one(self, owner: Any, p: Any, layout: Layout) -> Array:
        dtype = self.dtype_of(owner)
        if self.start == PARAM:
            p = jnp.real(p) if self.real else p
            return leaf.copy(p) if dtype is None else jnp.array(p, dtype, copy=True)
        value, shape = self._start(owner, p), tuple(length for length, _ in layout)
        like = p if shape == np.shape(p) else jnp.zeros(shape, jnp.result_type(p))
        return leaf.full(like, value, dtype, real=self.real)


def _placed(x: Array, p: Any, layout: Layout) -> Array:
    return mesh.along(x, p, [axis for _, axis in layout])
