"""The links of a transformation, in the order in which they act, and which parameters each of them reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx import checks
from gradtx.core.chain import chain
from gradtx.core.composite import Composite
from gradtx.core.leafwise import Leafwise
from gradtx.core.table import Table
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import show
from gradtx.types import Params

__all__ = ["Link", "Part", "applies", "arguments", "full_name", "links", "listed", "parts", "table", "unreached"]


class Link(NamedTuple):
    """A link, or a wrapper around others."""

    name: str
    """Its name, preceded by the names of the wrappers and groups that it is in."""
    arguments: dict[str, Any]
    """The arguments with which it was made, without the transformations in it and the defaults of its options."""
    reaches: tuple[str, ...] | None
    """The paths of the parameters that it acts on; None if it does not see them as they are."""
    wraps: bool = False
    """Whether it has others inside, which follow it in a list of links."""


class Part(NamedTuple):
    """A transformation inside another one."""

    key: str
    """Its name among the other one's parts."""
    name: str
    """Its full name."""
    tx: GradientTransformation
    params: Any
    """The parameters as it sees them."""
    positions: Any
    """In that tree, the place of each leaf among all parameters; None if it does not see them as they are."""


def parts(tx: Composite, name: str, params: Params, positions: Any) -> Iterator[Part]:
    """Yields the transformations inside of `tx`, whose full name is `name`; `tx` sees `params`."""
    if isinstance(tx, chain):  # whose links all see the same; a name, so that `_parts` opens nested chains
        for key, link in tx._parts().items():
            yield Part(key, f"{name}.{key}".lstrip("."), link, params, positions)
        return
    views = tx.views(params)
    for key, inner in tx.children().items() if tx.movers() else ():  # else they only measure
        view = views[key]
        inside = name if key in ("inner", "transformation") else f"{name}.{key}"
        seen = view.outline(params)
        if view.selects and positions is not None:
            places = view.seen(positions)
        else:  # the parameters as they are, in another dtype, or as one vector
            places = positions if _alike(seen, params) else None
        yield Part(str(key), inside, inner, seen, places)


def _alike(a: Any, b: Any) -> bool:
    """Whether two trees have the same leaves, but for their dtypes."""
    same = jax.tree.structure(a) == jax.tree.structure(b)
    return same and all(map(lambda x, y: np.shape(x) == np.shape(y), jax.tree.leaves(a), jax.tree.leaves(b)))


def full_name(tx: GradientTransformation, name: str) -> str:
    """Returns the full name of a transformation: a wrapper appends the name of its class, a chain appends nothing."""
    if isinstance(tx, chain):
        return name
    last = name.rpartition(".")[2].partition("[")[0]
    return name if last == type(tx).__name__ else f"{name}.{type(tx).__name__}".lstrip(".")


def applies(tx: GradientTransformation, params: Params) -> Sequence[bool]:
    """Returns for each leaf of the tree that `tx` sees whether `tx` acts on the leaf; a mask may exclude leaves."""
    where = tx._where(params) if isinstance(tx, Leafwise) else None
    return [True] * len(jax.tree.leaves(params)) if where is None else where


def arguments(tx: GradientTransformation) -> dict[str, Any]:
    """Returns the constructor arguments of `tx`, without the inner transformations."""
    found = {key: x for key, x in tx._arguments() if key is not None}
    return {key: x for key, x in found.items() if not isinstance(x, GradientTransformation)}


def links(tx: GradientTransformation, params: Params) -> list[Link]:
    """Lists all transformations in `tx`; a wrapper comes before its inner transformations."""
    paths = checks.paths(params)
    positions = jax.tree.unflatten(jax.tree.structure(params), range(len(paths)))

    def walk(tx: GradientTransformation, name: str, params: Params, positions: Any) -> Iterator[Link]:
        name = full_name(tx, name)
        inside = list(parts(tx, name, params, positions)) if isinstance(tx, Composite) else []
        if not isinstance(tx, chain) and (not inside or arguments(tx)):
            where = None if positions is None else zip(jax.tree.leaves(positions), applies(tx, params), strict=True)
            yield Link(
                name, arguments(tx), None if where is None else tuple(paths[i] for i, yes in where if yes), bool(inside)
            )
        for part in inside:
            yield from walk(part.tx, part.name, part.params, part.positions)

    return list(walk(tx, "", params, positions))


def unreached(found: Sequence[Link], params: Params) -> tuple[str, ...]:
    """Returns the paths of the parameters whose gradients no transformation changes."""
    acting = [link.reaches for link in found if not link.wraps and link.name.rpartition(".")[2] != "identity"]
    reached = {path for reaches in acting for path in (checks.paths(params) if reaches is None else reaches)}
    return tuple(path for path in checks.paths(params) if path not in reached)


def table(found: Sequence[Link], params: Params) -> Table:
    """Returns a table of the links, with their arguments and the parameters on which they act."""
    total = len(checks.paths(params))
    rows = [(link.name, _arguments_shown(link.arguments), _paths_shown(link.reaches, total)) for link in found]
    return Table(("link", "arguments", "parameters"), rows)


def _arguments_shown(given: dict[str, Any]) -> str:
    """Arguments as they are typed, long ones cut."""
    texts = (" ".join(f"{key}={show(x)}".split()) for key, x in given.items())
    return ", ".join(checks.cut(text, 60) for text in texts)


def _paths_shown(reaches: Sequence[str] | None, total: int) -> str:
    if reaches is None:
        return "all, in another shape"
    if len(reaches) == total:
        return f"all {total}" if total != 1 else "all"
    return f"{listed(reaches)} ({len(reaches)} of {total})" if reaches else "none"


def listed(paths: Sequence[str]) -> str:
    """Joins up to three paths; dots stand for more."""
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
