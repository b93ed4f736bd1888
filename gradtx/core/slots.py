"""Declares states: a NamedTuple per method, in which each field is declared by a slot beside its name.

    class ScaleByAdamState(NamedTuple):
        count: Array = counter()
        mu: Array = per_param(dtype="mu_dtype")
        nu: Array = per_param(real=True, signed=False)

The kind of a slot says how an array relates to the parameters:

    per_param        one array per parameter, of its shape
    reduced          per parameter an array without some of its axes: a row's mean, a norm
    factor           per parameter a square matrix, n x n for an axis (or for all entries) of length n
    per_matrix       per matrix that a parameter is seen as, an array of its shape, a vector or a number
    stack            per parameter k arrays of its shape, on a leading axis: a memory of k steps
    per_tree         one array for the whole tree, or a few of them by name: a number, a random key
    average_weights  per tree and scheduled decay rate, the weight of the gradients in its moving average
    child_state      the state of an inner transformation

The arguments of a slot say how the array begins: its first value, its dtype, whether it is real for complex
parameters, too, and whether it can be negative. A string stands for the hyperparameter or method of the
transformation with that name. `init`, the checks of `update` and the table of `gradtx.describe` follow from the
declaration; no other code knows these shapes.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, mesh, tree
from gradtx.core.hyper import Schedule
from gradtx.core.slot import PARAM, Layout, PerLeaf, Slot
from gradtx.types import Params

__all__ = [
    "PARAM",
    "PerLeaf",
    "Slot",
    "average_weights",
    "child_state",
    "counter",
    "factor",
    "per_matrix",
    "per_param",
    "per_tree",
    "reduced",
    "stack",
]


def _whole(shape: tuple[int, ...]) -> Layout:
    return tuple((length, axis) for axis, length in enumerate(shape))


class per_param(PerLeaf):
    """Declares a field of a state with one array per parameter, of its shape.

    Args:
      start: The first value: a number (0 by default), `PARAM` for a copy of the parameter, or the name of a
        hyperparameter or method of the transformation. A method is called with the parameter.
      real: Whether the array is real if the parameter is complex, as a second moment is. False by default.
      signed: Whether the array may be negative. True by default; with False, storage formats need no bit for the
        sign.
      dtype: The dtype, or the name of the field of the transformation that holds it. None (default) for the
        parameter's, at least float32.
      when: The name of a field or property of the transformation that says whether the slot exists; if not, the
        state holds () instead. None (default) for always.
      only_narrow: Whether only parameters of at most 16 bits have the array. False by default.
    """

    kind = "per parameter"
    may_copy = True
    only_narrow: bool = False

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout:
        del owner, view
        return _whole(shape)

    def layout_for(self, owner: Any, p: Any, view: Any = None) -> Layout | None:
        left_out = self.only_narrow and leaf.accumulator_dtype(checks.dtype(p)) == checks.dtype(p)
        return None if left_out else self.layout(owner, checks.shape(p), view)


class reduced(PerLeaf):
    """Declares a field of a state with an array per parameter that lacks some of the parameter's axes.

    Args:
      start: The first value: a number (0 by default), or the name of a hyperparameter or method of the
        transformation.
      real: Whether the array is real if the parameter is complex. False by default.
      signed: Whether the array may be negative. True by default.
      dtype: The dtype, or the name of the field that holds it. None (default) for the parameter's, at least
        float32.
      when: The name of a field or property that says whether the slot exists. None (default) for always.
      over: The axes that are left out: a tuple such as (-1,), "all" (default), or the name of a method of the
        transformation. The method maps the parameter's shape to a tuple, to a list of tuples for a list of arrays,
        or to None if this parameter has no array.
      keepdims: Whether axes that are left out stay, with length 1. False by default.
    """

    kind: ClassVar[str] = "reduced"
    naming = (*Slot.naming, "over")
    over: Any = "all"
    keepdims: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.over, (str, tuple)):
            raise TypeError(
                f"reduced: over must be a tuple of axes, 'all' or the name of a method, got {checks.shown(self.over)}. "
                "For a single axis write (0,)."
            )

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
        wrong = [axis for axis in axes if not -len(shape) <= axis < len(shape)]
        if wrong:
            raise ValueError(
                f"reduced: a parameter of shape {shape} has no axis {wrong[0]} to leave out. Let over name a method "
                "that returns the axes for each shape."
            )
        gone = {axis % len(shape) for axis in axes}
        if self.keepdims:
            return tuple((1, None) if axis in gone else (length, axis) for axis, length in enumerate(shape))
        return tuple((length, axis) for axis, length in enumerate(shape) if axis not in gone)


class factor(PerLeaf):
    """Declares a field of a state with a square matrix per parameter: n x n for an axis of length n.

    It begins as `start` times the identity.

    Args:
      start: The first value of the diagonal: a number (0 by default), or the name of a hyperparameter or method of
        the transformation. A method is called with zeros of the slot's shape, and returns all entries.
      real: Whether the matrix is real if the parameter is complex. False by default.
      signed: Whether entries may be negative. True by default.
      dtype: The dtype, or the name of the field that holds it. None (default) for the parameter's, at least
        float32.
      when: The name of a field or property that says whether the slot exists. None (default) for always.
      side: "all" (default) for a row and column for every entry of the parameter. With the other options the
        parameter is seen as matrices (`gradtx.rules.matrix_axes`), and each has a factor for its "rows", its
        "columns", or the "longer" or "shorter" of both.
      rank: The name of a field of the transformation with the largest number of columns. None (default) for no
        limit.
      where: The name of a method of the transformation that says for a `MatrixView` whether these parameters have
        the factor; for others the state holds None. None (default) for all.
      diagonal: The name of such a method that says whether the factor is diagonal and kept as a vector. None
        (default) for full matrices.
    """

    kind: ClassVar[str] = "factor"
    naming = (*Slot.naming, "rank", "where", "diagonal")
    side: str = "all"
    rank: str | None = None
    where: str | None = None
    diagonal: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("factor", "side", self.side, ("all", "rows", "columns", "longer", "shorter"))

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | None:
        if self.side == "all":
            n = max(math.prod(shape), 1)
            return (n, None), (n, None)
        if view is None or not _has(owner, self.where, view):
            return None
        rows, columns = view.fan_in, view.fan_out
        longer, shorter = ("rows", "columns") if rows >= columns else ("columns", "rows")
        side = {"longer": longer, "shorter": shorter}.get(self.side, self.side)
        n = rows if side == "rows" else columns
        if self.diagonal is not None and _has(owner, self.diagonal, view):
            return (view.count, None), (n, view.axis(side))
        rank = n if self.rank is None else min(getattr(owner, self.rank), rows, columns)
        return (view.count, None), (n, view.axis(side)), (rank, None)

    def _one(self, owner: Any, p: Any, layout: Layout) -> Array:
        lengths = tuple(length for length, _ in layout)
        if isinstance(self.start, str) and self.start not in owner._dynamic:
            like = jnp.zeros(lengths, jnp.result_type(p))
            return getattr(owner.at(0), self.start)(leaf.full(like, 0.0, self.dtype_of(owner), real=self.real))
        full = super()._one(owner, p, layout)
        diagonal = self.side != "all" and len(layout) == 2
        return full if diagonal else jnp.where(jnp.eye(*lengths[-2:], dtype=bool), full, 0)


class per_matrix(PerLeaf):
    """Declares a field of a state with an array for each matrix as which a parameter is seen.

    See `gradtx.rules.matrix_axes`. Unlike an array per parameter, it is available in `on_stack`.

    Args:
      start: The first value: a number (0 by default), or the name of a hyperparameter or method of the
        transformation.
      real: Whether the array is real if the parameter is complex. False by default.
      signed: Whether the array may be negative. True by default.
      dtype: The dtype, or the name of the field that holds it. None (default) for the parameter's, at least
        float32.
      when: The name of a field or property that says whether the slot exists. None (default) for always.
      of: The shape for each matrix: "entries" (default) for the matrix's own, "rows" or "columns" for a vector with
        a number for each of them, "whole" for a single number.
      where: The name of a method of the transformation that says for a `MatrixView` whether these parameters have
        the array; for others the state holds None. None (default) for all.
    """

    kind: ClassVar[str] = "per matrix"
    naming = (*Slot.naming, "where")
    of: str = "entries"
    where: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("per_matrix", "of", self.of, ("entries", "rows", "columns", "whole"))

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout | None:
        del shape
        if view is None or not _has(owner, self.where, view):
            return None
        rows, columns = (view.fan_in, view.axis("rows")), (view.fan_out, view.axis("columns"))
        sides = {"entries": (rows, columns), "rows": (rows,), "columns": (columns,), "whole": ()}[self.of]
        return (view.count, None), *sides


def _has(owner: Any, where: str | None, view: Any) -> bool:
    return where is None or getattr(owner, where)(view)


class stack(PerLeaf):
    """Declares a field of a state with several arrays per parameter, each of its shape, along a leading axis.

    Args:
      start: The first value: a number (0 by default), or the name of a hyperparameter or method of the
        transformation.
      real: Whether the array is real if the parameter is complex. False by default.
      signed: Whether the array may be negative. True by default.
      dtype: The dtype, or the name of the field that holds it. None (default) for the parameter's, at least
        float32.
      when: The name of a field or property that says whether the slot exists. None (default) for always.
      length: The number of arrays, or the name of a field of the transformation that holds it. 1 by default.
    """

    kind: ClassVar[str] = "stack"
    naming = (*Slot.naming, "length")
    length: Any = 1

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout:
        del view
        length = getattr(owner, self.length) if isinstance(self.length, str) else self.length
        return (checks.integer("stack", "length", length, ge=1), None), *_whole(shape)


class per_tree(Slot):
    """Declares a field of a state with one array for the whole tree, or a dict or NamedTuple of such arrays.

    A number is real and as wide as the widest parameter, at least float32, unless `dtype` says otherwise.

    Args:
      start: The first value: a number (0 by default), or the name of a hyperparameter or method of the
        transformation. A method is called with the tree of parameters, and its result is not cast.
      real: Has no effect here: a number for the whole tree is always real.
      signed: Whether the array may be negative. True by default.
      dtype: The dtype, or the name of the field that holds it. None (default) for the widest parameter's.
      when: The name of a field or property that says whether the slot exists. None (default) for always.
    """

    kind: ClassVar[str] = "per tree"

    def first(self, owner: Any, params: Params) -> Any:
        """Returns the array before the first step, whole on each device that has a part of the parameters."""
        value, dtype = self._start(owner, params), self.dtype_of(owner)
        if isinstance(value, (bool, int, float)) or self.start in owner._dynamic:
            value = tree.number(params, value) if dtype is None else jnp.array(value, dtype, copy=True)
        return mesh.everywhere(value, params)


class average_weights(per_tree):
    """Declares a field of a state with the weights of the rule's moving averages: 1 - the product of the decay rates
    so far.

    It is a dict from names in the rule's `corrected` to numbers. It only contains decay rates that are schedules
    when the state is made: for a constant rate b the weight is 1 - b^t, which needs no place in the state. Leave
    its arguments at their defaults.

    Args:
      start, real, signed, dtype, when: As for `per_tree`.
    """

    def first(self, owner: Any, params: Params) -> Any:
        scheduled = [name for name in owner.corrected if isinstance(getattr(owner, name), Schedule)]
        return mesh.everywhere({name: tree.number(params, 0.0) for name in scheduled}, params)


class child_state(Slot):
    """Declares a field of a state that holds the state of an inner transformation.

    Args:
      start, real, signed, dtype, when: Not used here.
      of: The name of the field that holds the transformation, "inner" by default; None for a dict with the states
        of all inner transformations by name.
    """

    kind: ClassVar[str] = "child"
    of: str | None = "inner"


def counter() -> Any:
    """Declares a field of a state that counts steps from 0, as an int32."""
    return per_tree(start=0, dtype=jnp.int32)
