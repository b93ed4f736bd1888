"""States: a NamedTuple per method, whose fields are declared once, each by a slot beside its name.

    class ScaleByAdamState(NamedTuple):
        count: Array = counter()
        mu: Array = per_param(dtype="mu_dtype")
        nu: Array = per_param(real=True, signed=False)

A slot says what an array is to the parameters:

    per_param        one array per parameter, of its shape
    reduced          per parameter an array without some of its axes: a row's mean, a norm
    factor           per parameter a square matrix, n x n for an axis (or for all entries) of length n
    per_matrix       per matrix that a parameter is seen as, an array of its shape, a vector or a number
    stack            per parameter k arrays of its shape, on a leading axis: a memory of k steps
    per_tree         one array for the whole tree, or a few of them by name: a number, a random key
    average_weights  per tree and scheduled decay, the weight that its moving average holds so far
    child_state      the state of an inner transformation

and how it begins: its first value, its dtype, whether it is real for complex parameters too, and whether it can be
negative. What depends on the transformation is named: a string is the name of a hyperparameter or method of it. From
the declaration follow `init`, the checks of `update`, and what `gradtx.describe` shows; nothing else knows of shapes.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, mesh, tree
from gradtx.core.hyper import Schedule
from gradtx.core.slot import PARAM, Layout, PerLeaf, Slot

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
    """A slot with one array per parameter, of its shape.

    Args:
      start: The first value: a number (default 0), `PARAM` for a copy of the parameter, or the name of a hyperparameter
        or method of the transformation. The method is called with the parameter.
      real: True for an array that is real where the parameter is complex, as a second moment is.
      signed: False for an array that is never negative: storage then spends no bit on the sign.
      dtype: The dtype, or the name of the field of the transformation that holds it. By default the parameter's,
        float32 at least.
      when: The name of a field or property of the transformation that says whether there is such a slot; where it is
        false, or None, the state holds () in its place.
      only_narrow: True for an array beside parameters of 16 bits or fewer alone; beside others there is none.
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
    """A slot with an array per parameter that lacks some of its axes.

    Args:
      over: The axes that are left out: a tuple such as (-1,), 'all', or the name of a method of the transformation
        from the parameter's shape to a tuple; to a list of tuples for a list of arrays; or to None where this parameter
        has nothing here.
      keepdims: Whether axes that are left out stay, with length 1.

    It takes `start`, `real`, `signed`, `dtype` and `when` as `per_param` does.
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
                "Of one axis write (0,)."
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
    """A slot with a square matrix per parameter, n x n for an axis of length n.

    It begins as `start` times the identity.

    Args:
      side: 'all' for one row and column for every entry of the parameter. With the others the parameter is seen as
        matrices (`gradtx.rules.matrix_axes`), and the slot has a factor for each: 'rows', 'columns', or 'longer' or
        'shorter' for that of the two.
      rank: None, or the name of a field of the transformation: the factor then has no more columns than that.
      where: None, or the name of a method of the transformation that says of a `MatrixView` whether the parameters
        seen by it have this factor; for others the state holds None.
      diagonal: None, or the name of such a method that says whether the factor is diagonal, which is kept as a vector.

    It takes `start`, `real`, `signed`, `dtype` and `when` as `per_param` does. A method that `start` names is called
    with zeros of the slot's shape, and returns all of its entries.
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
    """A slot with an array for each matrix that a parameter is seen as (`gradtx.rules.matrix_axes`).

    Unlike an array per parameter it is there in `on_stack`.

    Args:
      of: What it has for each matrix: 'entries' for an array of its shape, 'rows' or 'columns' for a vector with a
        number for each of them, 'whole' for one number.
      where: None, or the name of a method of the transformation that says of a `MatrixView` whether the parameters
        seen by it have this array; for others the state holds None.

    It takes `start`, `real`, `signed`, `dtype` and `when` as `per_param` does.
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
    """A slot with several arrays per parameter, each of its shape, on a leading axis.

    Args:
      length: How many: a number, or the name of a field of the transformation.

    It takes `start`, `real`, `signed`, `dtype` and `when` as `per_param` does.
    """

    kind: ClassVar[str] = "stack"
    naming = (*Slot.naming, "length")
    length: Any = 1

    def layout(self, owner: Any, shape: tuple[int, ...], view: Any = None) -> Layout:
        del view
        length = getattr(owner, self.length) if isinstance(self.length, str) else self.length
        return (checks.integer("stack", "length", length, ge=1), None), *_whole(shape)


class per_tree(Slot):
    """A slot with one array for the whole tree, or with a dict or NamedTuple of such arrays.

    A number is real, and as wide as the widest parameter, float32 at least, unless `dtype` says otherwise. What a
    method returns as the start is not cast, so that `dtype` does not apply to it. It takes `start`, `real`, `signed`,
    `dtype` and `when` as `per_param` does; a method that `start` names is called with the tree of parameters.
    """

    kind: ClassVar[str] = "per tree"

    def first(self, owner: Any, params: Any) -> Any:
        """The array before the first step, whole on each device that has a part of the parameters."""
        value, dtype = self._start(owner, params), self.dtype_of(owner)
        if isinstance(value, (bool, int, float)) or self.start in owner._dynamic:
            value = tree.number(params, value) if dtype is None else jnp.array(value, dtype, copy=True)
        return mesh.everywhere(value, params)


class average_weights(per_tree):
    """A slot with the weights that the rule's moving averages hold so far: 1 - the product of their decays.

    It is a dict from the names in the rule's `corrected` to numbers. It has those decays alone that are schedules when
    the state is made. For a constant decay b the weight is 1 - b^t, which needs no place in the state.
    """

    def first(self, owner: Any, params: Any) -> Any:
        scheduled = [name for name in owner.corrected if isinstance(getattr(owner, name), Schedule)]
        return mesh.everywhere({name: tree.number(params, 0.0) for name in scheduled}, params)


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
