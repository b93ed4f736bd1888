"""Writes the table of `docs/optimizers.md`: one row for every optimizer of the public namespace.

    python -m docs.optimizers

Memory, scope and needs are computed from each optimizer with its default settings. Times come from the last run of
`python -m benchmarks.sweep`. The paper and the advice are typed, in `docs/optimizers.toml`.
"""

from __future__ import annotations

import inspect
import json
import pathlib
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import jax
from tabulate import tabulate

import gradtx as gx

__all__ = ["LINKS", "default", "methods", "needs", "optimizers", "page", "scope", "typed"]

HERE = pathlib.Path(__file__).parent
PAGE = HERE / "optimizers.md"
SWEEP = HERE.parent / "benchmarks" / "results" / "sweep.json"
BEGIN, END = "<!-- table: python -m docs.optimizers -->\n", "<!-- end of table -->\n"

LINKS = {"matrices_with_adamw", "reduce_variance"}
"""Public transformations of the methods' files that are neither rules called scale_by nor optimizers by themselves."""

PARAMS = jax.ShapeDtypeStruct((1024, 1024), "float32")
SCOPES = (gx.rules.Elementwise, gx.rules.Layerwise, gx.rules.Treewide)


def optimizers() -> Iterator[str]:
    """Yields the names of all public functions and classes that make an optimizer, in alphabetical order."""
    return (name for name in _exported() if not name.startswith("scale_by_") and name not in LINKS)


def methods() -> Iterator[str]:
    """Yields the optimizers, and the rules of files that define no optimizer, in alphabetical order."""
    files = {getattr(gx, name).__module__ for name in optimizers()}
    return (
        name
        for name in _exported()
        if name not in LINKS and (not name.startswith("scale_by_") or getattr(gx, name).__module__ not in files)
    )


def _exported() -> Iterator[str]:
    """Yields the public names, in the files of the methods, of transformations and of functions that return one."""
    for name in sorted(gx.__all__):
        item = getattr(gx, name)
        made = getattr(gx, str(inspect.signature(item).return_annotation), None) if inspect.isfunction(item) else item
        rule = inspect.isclass(made) and issubclass(made, gx.GradientTransformation)
        if rule and item.__module__.startswith("gradtx.optimizers."):
            yield name


def default(name: str) -> Any:
    """Makes the method with its default settings; arguments without a default, such as a learning rate, are 1."""
    constructor = getattr(gx, name)
    required = [p.name for p in inspect.signature(constructor).parameters.values() if p.default is p.empty]
    return constructor(**dict.fromkeys(required, 1))


def _links(tx: Any) -> list[Any]:
    """Returns the transformations inside `tx`, through all chains and groups."""

    def single(x: Any) -> bool:
        return isinstance(x, gx.GradientTransformation) and not isinstance(x, (gx.chain, gx.partition))

    return [x for x in jax.tree.leaves(tx, is_leaf=single) if single(x)]


def scope(tx: Any) -> str:
    """Returns the widest scope of the transformations inside `tx`."""
    return SCOPES[max(_width(x) for x in _links(tx))].__name__.lower()


def _width(link: Any) -> int:
    """Returns the index in `SCOPES` of a transformation, by its base class, else by its folder, else the last one."""
    for i, base in enumerate(SCOPES):
        if isinstance(link, base) or f".{base.__name__.lower()}." in type(link).__module__:
            return i
    return len(SCOPES) - 1


def needs(tx: Any) -> list[str]:
    """Returns the names of the arguments that `update` requires, besides the gradients and the state."""
    return list(dict.fromkeys(name for x in _links(tx) for name in getattr(x, "needs", ())))


def takes(tx: Any) -> list[str]:
    """Returns the names of the optional extra arguments of `update`."""
    return sorted({name for x in _links(tx) for name in x.extra_args} - set(needs(tx)))


def memory(tx: Any) -> str:
    """Returns the size of the state divided by the size of the parameters, for one large matrix."""
    ratio = gx.tree.nbytes(jax.eval_shape(tx.init, PARAMS)) / gx.tree.nbytes(PARAMS)
    return f"{ratio:.3f}".rstrip("0").rstrip(".")


def times() -> dict[str, str]:
    """Returns the time of a step in nanoseconds per parameter, as `python -m benchmarks.sweep` measured it."""
    rows = json.loads(SWEEP.read_text())["results"]
    measured = {row["method"]: row for row in rows if row["tree"] == "large"}
    return {
        name: f"{row['median']['gradtx']['step'] / row['parameters'] * 1e9:.1f}"
        for name, row in measured.items()
        if row["leaves"] == 1
    }


def typed() -> dict[str, dict[str, str]]:
    """Returns the contents of `optimizers.toml`: for each method, the paper and when to pick the method."""
    return tomllib.loads((HERE / "optimizers.toml").read_text())


def table() -> str:
    """Returns the table in Markdown."""
    rows = []
    text, time = typed(), times()
    for name in methods():
        tx = default(name)
        file = getattr(gx, name).__module__.replace(".", "/") + ".py"
        asked = ", ".join([*needs(tx), *(f"({extra})" for extra in takes(tx))])
        cells = [memory(tx), time.get(name, ""), scope(tx), asked, text[name]["paper"], text[name]["pick"]]
        rows.append([f"[`{name}`](../{file})", *cells])
    headers = ["optimizer", "memory", "time", "scope", "needs", "paper", "pick it when"]
    return tabulate(rows, headers, "github", disable_numparse=True)


def page() -> str:
    """Returns the whole page, with a new table."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(HERE.parent)}\n")
