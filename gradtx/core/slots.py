"""States: a NamedTuple per method, whose fields are declared once, each by a slot beside its name.

    class ScaleByAdamState(NamedTuple):
        count: Array = counter()
        mu: Array = per_param(dtype="mu_dtype")
        nu: Array = per_param(real=True, signed=False)

A slot says what an array is to the parameters:

    per_param    one array per parameter, of its shape
    reduced      per parameter an array without some of its axes: a row's mean, a norm
    factor       per parameter a square matrix, n x n for an axis (or for all entries) of length n
    stack        per parameter k arrays of its shape, on a leading axis: a memory of k steps
    per_tree     one array for the whole tree, or a few of them by name: a number, a random key
    child_state  the state of an inner transformation

and how it begins: its first value, its dtype, whether it is real for complex parameters too, and whether it can be
negative. What depends on the transformation is named: a string is the name of a hyperparameter or method of it. From
the declaration follow `init`, the checks of `update`, and what `gradtx.describe` shows; nothing else knows of shapes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import leaf, tree
from gradtx.core.hyper import resolve

__all__ = [
    "PARAM",
    "PerLeaf",
    "Slot",
    "child_state",
    "counter",
    "factor",
    "per_param",
    "per_tree",
    "reduced",
    "stack",
]

PARAM = "the parameter itself"
"""The start of a slot that begins as a copy of the parameter."""

Layout = tuple[tuple[int, int | None], ...]
"""For each axis of an array its length, and the axis of the parameter that it follows, or None if it is its own."""


class _Declaration(type):
    """Makes type checkers take a slot for a value of the field that it declares."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot(metaclass=_Declaration):
    """What a field of a state is to the parameters; see the module for the kinds.

    Args:
      start: The first value: a number, `PARAM` for a copy of the parameter, or the name of a hyperparameter or method
        of the transformation. A method is called with the parameter (of a slot per tree: with the tree of parameters).
      real: True for an array that is real where the parameter is complex, as a second moment is.
      signed: False for an array that is never negative: storage then spends no bit on the sign.
      dtype: The dtype, or the name of the field of the transformation that holds it (a transformation without such a
        field gets the default). By default the parameter's, float32 at least.
      when: The name of a field or property of the transformation that says whether there is such a slot; where it is
        false, or None, the state holds () in its place.
    """

    kind: ClassVar[str] = ""
    start: Any = 0.0
    real: bool = False
    signed: bool = True
    dtype: Any = None
    when: str | None = None

    def present(self, owner: Any) -> bool:
        """Whether the state of this transformation has the slot."""
        return self.when is None or bool(getattr(owner, self.when))

    def _dtype(self, owner: Any) -> Any:
        return getattr(owner, self.dtype, None) if isinstance(self.dtype, str) else self.dtype

    def _start(self, owner: Any, params: Any) -> Any:
        if not isinstance(self.start, str):
            return self.start
        if self.start in owner._dynamic:
            return resolve(owner, self.start, 0)
        return getattr(owner.at(0), self.start)(params)


class PerLeaf(Slot):
    """A slot with something for each parameter."""

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | list[Layout] | None:
        """The axes of the array, or of each array in a list, for a parameter of this shape; None for no array."""
        raise NotImplementedError

    def first(self, owner: Any, p: Any, view: Any = None) -> Any:
        """The array before the first step, or a list of them, or None."""
        layout = self.layout(owner, np.shape(p), view)
        if layout is None:
            return None
        if isinstance(layout, list):
            return [self._one(owner, p, part) for part in layout]
        return self._one(owner, p, layout)

    def _one(self, owner: Any, p: Any, layout: Layout) -> Array:
        dtype = self._dtype(owner)
        if self.start == PARAM:
            return leaf.copy(p) if dtype is None else jnp.array(p, dtype, copy=True)
        value, shape = self._start(owner, p), tuple(length for length, _ in layout)
        like = p if shape == np.shape(p) else jnp.zeros(shape, jnp.result_type(p))
        return leaf.full(like, value, dtype, real=self.real)


def _whole(shape: tuple[int, ...]) -> Layout:
    return tuple((length, axis) for axis, length in enumerate(shape))


class per_param(PerLeaf):
    """A slot with one array per parameter, of its shape. Takes the arguments of `Slot`."""

    kind = "per parameter"

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout:
        del owner, view
        return _whole(shape)


@dataclasses.dataclass(frozen=True)
class reduced(PerLeaf):
    """A slot with an array per parameter that lacks some of its axes.

    Args:
      over: The axes that are left out: a tuple of them, 'all', or the name of a method of the transformation from the
        parameter's shape to a tuple; to a list of tuples for a list of arrays; or to None where this parameter has
        nothing here.
      keepdims: Whether axes that are left out stay, with length 1.

    It takes the arguments of `Slot`, too.
    """

    kind: ClassVar[str] = "reduced"
    over: Any = "all"
    keepdims: bool = False

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | list[Layout] | None:
        del view
        if self.over == "all":
            over: Any = tuple(range(len(shape)))
        else:
            over = getattr(owner, self.over)(shape) if isinstance(self.over, str) else self.over
        if over is None or isinstance(over, tuple):
            return None if over is None else self._without(shape, over)
        return [self._without(shape, axes) for axes in over]

    def _without(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> Layout:
        gone = {axis % len(shape) for axis in axes}
        if self.keepdims:
            return tuple((1, None) if axis in gone else (length, axis) for axis, length in enumerate(shape))
        return tuple((length, axis) for axis, length in enumerate(shape) if axis not in gone)


@dataclasses.dataclass(frozen=True)
class factor(PerLeaf):
    """A slot with a square matrix per parameter, n x n for an axis of length n.

    It begins as `start` times the identity.

    Args:
      side: 'all' for one row and column for every entry of the parameter. With the others the parameter is seen as
        matrices (`gradtx.rules.matrix_axes`), and the slot has a factor for each: 'rows', 'columns', or 'longer' for
        the longer of the two.
      rank: None, or the name of a field of the transformation: the factor then has no more columns than that.

    It takes the arguments of `Slot`, too.
    """

    kind: ClassVar[str] = "factor"
    side: str = "all"
    rank: str | None = None

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | None:
        if self.side == "all":
            n = max(math.prod(shape), 1)
            return (n, None), (n, None)
        if view is None:
            return None
        rows, columns = view.fan_in, view.fan_out
        longer = "rows" if rows >= columns else "columns"
        side = longer if self.side == "longer" else self.side
        n = rows if side == "rows" else columns
        rank = n if self.rank is None else min(getattr(owner, self.rank), rows, columns)
        return (view.count, None), (n, view.axis(side)), (rank, None)

    def _one(self, owner: Any, p: Any, layout: Layout) -> Array:
        *batch, n, rank = (length for length, _ in layout)
        dtype = leaf.full(jnp.zeros((), jnp.result_type(p)), 0.0, self._dtype(owner), real=self.real).dtype
        eye = jnp.eye(n, rank, dtype=dtype) * jnp.asarray(self._start(owner, p), dtype)
        return jnp.broadcast_to(eye, (*batch, n, rank)) + 0


@dataclasses.dataclass(frozen=True)
class stack(PerLeaf):
    """A slot with several arrays per parameter, each of its shape, on a leading axis.

    Args:
      length: How many: a number, or the name of a field of the transformation.

    It takes the arguments of `Slot`, too.
    """

    kind: ClassVar[str] = "stack"
    length: Any = 1

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout:
        del view
        length = getattr(owner, self.length) if isinstance(self.length, str) else self.length
        return (length, None), *_whole(shape)


@dataclasses.dataclass(frozen=True)
class per_tree(Slot):
    """A slot with one array for the whole tree, or with a dict or NamedTuple of such arrays.

    A number is real, and as wide as the widest parameter, float32 at least, unless `dtype` says otherwise. What a
    method returns as the start is kept as it is. It takes the arguments of `Slot`.
    """

    kind: ClassVar[str] = "per tree"

    def first(self, owner: Any, params: Any) -> Any:
        """The array before the first step."""
        value, dtype = self._start(owner, params), self._dtype(owner)
        if isinstance(value, (bool, int, float)) or self.start in owner._dynamic:
            return tree.number(params, value) if dtype is None else jnp.array(value, dtype, copy=True)
        return value


@dataclasses.dataclass(frozen=True)
class child_state(Slot):
    """A slot with the state of an inner transformation.

    Args:
      of: The name of the field that holds the transformation; None for a dict with the states of all inner
        transformations by name.
    """

    kind: ClassVar[str] = "child"
    of: str | None = "inner"


def counter() -> Any:
    """A slot per tree that counts from 0, as an int32."""
    return per_tree(start=0, dtype=jnp.int32)
