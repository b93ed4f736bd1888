"""Lists what a state consists of, array by array, from the declarations of its slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx import checks, leaf, tree
from gradtx.core import links
from gradtx.core.composite import Composite
from gradtx.core.fits import Owner, check_class
from gradtx.core.packed import is_packed
from gradtx.core.slots import Slot, child_state, per_tree
from gradtx.core.state import declared
from gradtx.core.stateful import Stateful
from gradtx.core.table import Shown, Table
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import function
from gradtx.types import Params, State, Transformation

__all__ = ["Description", "Place", "Row", "describe", "map_state"]


class Place(NamedTuple):
    """Where an array is in a state; `map_state` passes it to its function."""

    link: str
    """The names of the transformations, from the outermost to the one whose state it is, joined by dots."""
    field: str
    """The field of that transformation's state."""
    slot: Slot | None
    """How the field is declared; None in the state of another library's transformation."""
    path: str
    """The path of its parameter, such as `dense/kernel`; empty if it belongs to the whole tree."""
    shape: tuple[int, ...]
    """The shape that the declaration of the field gives it."""
    axes: tuple[int | None, ...]
    """For each axis of the array the axis of the parameter that it follows, or None if it is an axis of its own."""


def map_state(f: Callable[[Place, Any], Any], tx: Any, state: State, params: Params) -> Any:
    """Calls `f(place, x)` on every array `x` of a state, where `place` says which array it is.

    Use it to convert states, for example to reset one moment or to load a checkpoint from elsewhere. Arrays in the
    states of inner transformations are included, each with its place in its own transformation's state.

    Args:
      f: A function `(place, x) -> array`. `place.link` names the transformations from the outermost to the one that
        owns the array, joined by dots; `place.field` is the name of the state's field; `place.path` is the path of the
        parameter, such as `dense/kernel`, and empty for an array of the whole tree. `place.shape` is the shape that the
        field's declaration gives the array, `place.axes` has for each axis of the array the parameter's axis that it
        follows, or None, and `place.slot` is the declaration (None in another library's state).
      tx: The transformation.
      state: A state of `tx`.
      params: The parameters, or their shapes.

    Returns:
      A state like `state`, with the results of `f` as its arrays.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx, params = gx.adam(0.1), {"w": jnp.ones(2)}
    >>> doubled = gx.map_state(lambda place, x: 2 * x if place.field == "mu" else x, tx, tx.init(params), params)
    >>> print(doubled[0].mu["w"])
    [0. 0.]
    """
    return _mapped(function("map_state", "f", f), as_transformation("map_state", tx), state, params, ())


def _mapped(f: Callable[[Place, Any], Any], tx: Any, state: State, params: Params, above: tuple[str, ...]) -> Any:
    link = ".".join((*above, type(tx).__name__))
    if not isinstance(tx, Stateful):
        return jax.tree_util.tree_map_with_path(
            lambda path, x: f(Place(link, checks.slashed(path), None, "", *_own(x)), x), state
        )
    if tx.State is not None:
        check_class(Owner(link, params, "params"), state, tx.State)
        fields = {
            name: _field(f, tx, slot, getattr(state, name), params, Place(link, name, slot, "", (), ()))
            for name, slot in declared(tx.State).items()
            if slot.present(tx) and not isinstance(slot, child_state)
        }
        state = state._replace(**fields)
    if isinstance(tx, Composite):
        views, inner_states = tx.views(params), tx.child_states(state)
        states = {
            name: _mapped(
                f,
                child,
                inner_states[name],
                views[name].outline(params),
                (*above, *tx.path_to(name)),
            )
            for name, child in tx.children().items()
        }
        state = tx.with_child_states(state, states)
    return state


def _field(f: Callable[[Place, Any], Any], tx: Any, slot: Any, value: Any, params: Params, place: Place) -> Any:
    if isinstance(slot, per_tree):

        def one(path: Any, x: Any) -> Any:
            names = [place.field, *map(checks.slashed, [path] if path else [])]
            shape, axes = _own(x)
            return f(place._replace(field="/".join(names), shape=shape, axes=axes), x)

        return jax.tree_util.tree_map_with_path(one, value)
    leaves, treedef = jax.tree.flatten(params)
    items: list[Any] = []
    rows = zip(checks.paths(params), leaves, treedef.flatten_up_to(value), tx._matrix_views(params), strict=True)
    for path, p, item, view in rows:
        layout = slot.layout_for(tx, p, view)
        if isinstance(layout, list):
            items.append([f(_at(place, path, part), x) for part, x in zip(layout, item, strict=True)])
        else:
            items.append(None if layout is None else f(_at(place, path, layout), item))
    return treedef.unflatten(items)


def _at(place: Place, path: str, layout: Any) -> Place:
    lengths, axes = zip(*layout, strict=True) if layout else ((), ())
    return place._replace(path=path, shape=lengths, axes=axes)


def _own(x: Any) -> tuple[tuple[int, ...], tuple[None, ...]]:
    """Returns the shape of an array and its axes, none of which follows an axis of a parameter."""
    return jnp.shape(x), (None,) * jnp.ndim(x)


class Row(NamedTuple):
    """One array of a state, with the fields that `describe` explains."""

    link: str
    field: str
    kind: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    axes: tuple[int | None, ...]
    plain_nbytes: int
    """The bytes without `gx.stored`; 0 for all parts of a stored array except the first."""


class Description(Shown):
    """The links of a transformation, and the arrays of its state. Prints as two tables, the second by field.

    With `gx.stored`, the second table has a column `plain`: the bytes without it.
    """

    def __init__(self, rows: tuple[Row, ...], tx: GradientTransformation, shapes: Any) -> None:
        self.rows = rows
        self._tx, self._shapes = tx, shapes

    @cached_property
    def links(self) -> tuple[links.Link, ...]:
        """The links (transformations of the chain), with `name`, `arguments` and paths of parameters in `reaches`."""
        return tuple(links.links(self._tx, self._shapes))

    @property
    def unreached(self) -> tuple[str, ...]:
        """The paths of the parameters whose gradients no transformation changes."""
        return links.unreached(self.links, self._shapes)

    @property
    def nbytes(self) -> int:
        """The total size of all arrays in bytes."""
        return sum(row.nbytes for row in self.rows)

    @property
    def plain_nbytes(self) -> int:
        """The total size of all arrays in bytes without `gx.stored`."""
        return sum(row.plain_nbytes for row in self.rows)

    def _parts_shown(self) -> Sequence[Table | str]:
        left = self.unreached
        said = [f"No link reaches {links.listed(left)} ({len(left)} parameters)."] if left else []
        return [links.table(self.links, self._shapes), *said, self._state_table()]

    def _state_table(self) -> Table:
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.link, row.field.partition("/")[0], row.kind), []).append(row)
        lines: list[tuple[str, ...]] = []
        above = ""
        for (link, field, kind), rows in groups.items():
            dtypes = ", ".join(dict.fromkeys(row.dtype for row in rows))
            nbytes, plain = (f"{sum(getattr(row, n) for row in rows):,}" for n in ("nbytes", "plain_nbytes"))
            lines.append((link if link != above else "", field, kind, str(len(rows)), dtypes, nbytes, plain))
            above = link
        lines.append(("total", "", "", str(len(self.rows)), "", f"{self.nbytes:,}", f"{self.plain_nbytes:,}"))
        columns = ("state of", "field", "kind", "arrays", "dtype", "bytes", "plain")
        if self.plain_nbytes == self.nbytes:  # nothing is stored
            columns, lines = columns[:-1], [line[:-1] for line in lines]
        return Table(columns, lines, frozenset({"arrays", "bytes", "plain"}))


def describe(tx: Transformation, params: Params) -> Description:
    """Lists the links of a transformation, which parameters each reaches, and every array in its state.

    Use it to see what you have built, and whether its state fits into memory before you make it: nothing is allocated.
    `show()` prints it in color where rich is installed, and a notebook shows it as HTML.

    Args:
      tx: The transformation.
      params: The parameters, or their shapes (`jax.ShapeDtypeStruct`).

    Returns:
      A description that prints as tables. `links` has for each link `name`, `arguments` and `reaches`, the paths of the
      parameters that it acts on; `unreached` has the paths of those that no link changes. `nbytes` is the total size;
      `rows` has for each array `link` (the transformation whose state it is in), `field`, `kind` ('per parameter',
      'reduced', 'factor', 'per matrix', 'stack' or 'per tree'; 'foreign' for another library's), `path` (of the
      parameter that it belongs to), `shape`, `dtype`, `nbytes`, `axes` (for each axis of the array the axis of the
      parameter that it follows, or None), and `plain_nbytes` (the bytes without `gx.stored`).

    >>> import jax, gradtx as gx
    >>> shape = jax.ShapeDtypeStruct
    >>> params = {"kernel": shape((1000, 500), "float32"), "bias": shape((500,), "float32")}
    >>> print(gx.describe(gx.adamw(1e-3), params))
    link                    arguments                                  parameters
    scale_by_adam           b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0  all 2
    add_decayed_weights     weight_decay=0.0001                        all 2
    scale_by_learning_rate  learning_rate=0.001                        all 2
    <BLANKLINE>
    state of                field  kind           arrays  dtype        bytes
    scale_by_adam           count  per tree            1  int32            4
                            mu     per parameter       2  float32  2,002,000
                            nu     per parameter       2  float32  2,002,000
    add_decayed_weights     count  per tree            1  int32            4
    scale_by_learning_rate  count  per tree            1  int32            4
    total                                              7           4,004,012

    If `gx.stored` is in `tx`, the last column says how many bytes the arrays would take without it:

    >>> print(gx.describe(gx.stored(gx.trace(0.9), "int8"), params))
    link          arguments                  parameters
    stored        formats='int8'             all 2
    stored.trace  decay=0.9, dampening=0.0   all 2
    <BLANKLINE>
    state of      field  kind           arrays  dtype            bytes      plain
    stored.trace  trace  per parameter       3  float32, int8  522,000  2,002,000
                  count  per tree            1  int32                4          4
    total                                    4                 522,004  2,002,004

    Raises:
      TypeError: `tx` is not a transformation, or a leaf of `params` has no shape or dtype.
    """
    tx = as_transformation("describe", tx)
    _check_shapes(params)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), params)
    return Description(_rows(tx, params), tx, shapes)


def _rows(tx: GradientTransformation, params: Params) -> tuple[Row, ...]:
    """Returns one row for each array of the state."""
    rows: list[Row] = []

    def note(place: Place, item: Any) -> Any:
        plain = math.prod(item.shape) * item.dtype.itemsize if is_packed(item) else None
        for path, x in jax.tree_util.tree_leaves_with_path(item):
            part = checks.slashed(path)
            field = f"{place.field}/{part}" if part else place.field
            dtype, kind = jnp.result_type(x), "foreign" if place.slot is None else place.slot.kind
            axes = place.axes if x.ndim == len(place.axes) else (None,) * x.ndim
            nbytes = tree.nbytes(x)
            before, plain = nbytes if plain is None else plain, None if plain is None else 0
            rows.append(Row(place.link, field, kind, place.path, x.shape, dtype.name, nbytes, axes, before))
        return item

    map_state(note, tx, jax.eval_shape(tx.init, params), params)
    return tuple(rows)


def _check_shapes(params: Params) -> None:
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if not (hasattr(x, "shape") and hasattr(x, "dtype")) and not leaf.is_number(x):
            raise TypeError(
                f"describe: at {checks.keystr(path)} params has {checks.shown(x)}, which has no shape and dtype. Give "
                "arrays, or jax.ShapeDtypeStruct(shape, dtype)."
            )
