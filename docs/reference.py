"""The API reference: a page for each topic, with every public name.

The topics are the groups of names in `gradtx/__init__.py`. `docs/hooks.py` makes the pages when the site is built. Each
entry is an instruction for mkdocstrings, which reads signatures and docstrings.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gradtx as gx

__all__ = ["index", "names", "pages", "summary", "topics"]

FOLDER = "reference"
SCOPES = {
    "elementwise": "Optimizers: elementwise",
    "layerwise": "Optimizers: layerwise",
    "treewide": "Optimizers: treewide",
}

TITLES = {
    "Using transformations, and composing them": "Use and compose",
    "Slow copies of parameters, and numbers that stay in range": "Helpers",
    "Functions of a batch in parts, and made smooth; assignment problems": "Microbatching, perturbations, assignment",
    "The nearest point of a set, and proximal operators": "Projections and proximal operators",
    "The laws, for transformations of other authors": "Testing your own",
}
"""Short titles for groups whose headings are long."""

COMPAT: dict[str, dict[str, tuple[str, ...]]] = {
    "PyTorch's names": {"gradtx.compat.torch": (), "gradtx.compat.torch.lr_scheduler": ()},
    "Converting states": {
        "gradtx.compat.optax.convert": ("from_optax", "to_optax"),
        "gradtx.compat.torch": ("load_state", "group_labels"),
    },
}
"""Topics outside of `gx`: their modules, each with the names to show; all of them if none is named."""


def topics() -> dict[str, list[str]]:
    """Maps each topic to its public names, in the order of `gradtx/__init__.py`."""
    found: dict[str, list[str]] = {}
    topic = ""
    for line in Path(gx.__file__).read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"    # (.+)", line):
            topic = TITLES.get(heading[1], heading[1])
        elif name := re.search(r"\bas ([a-zA-Z]\w*),?$", line):
            scope = getattr(gx, name[1]).__module__.split(".")[2:3] if topic == "Optimizers" else []
            found.setdefault(SCOPES[scope[0]] if scope and scope[0] in SCOPES else topic, []).append(name[1])
    return found


def names(module: ModuleType) -> list[str]:
    """Returns the public names of a module such as `gx.tree`, without its submodules."""
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return [name for name in listed if documented(getattr(module, name))]


def documented(item: object) -> bool:
    """Returns whether an object is a function or a class with a docstring, which gets an entry of the reference."""
    return (inspect.isfunction(item) or inspect.isclass(item)) and bool(inspect.getdoc(item))


def entries(name: str) -> Iterator[tuple[str, object]]:
    """Yields the full names and objects of the entries for a public name: the name, or the contents of a module."""
    item = getattr(gx, name)
    if not hasattr(item, "__path__") and not isinstance(item, ModuleType):
        yield f"gradtx.{name}", item
        return
    module = importlib.import_module(f"gradtx.{name}")
    yield from ((f"gradtx.{name}.{part}", getattr(module, part)) for part in names(module))


def slug(topic: str) -> str:
    """Returns the file name of a topic's page."""
    return re.sub(r"[^a-z0-9]+", "-", topic.lower()).strip("-") + ".md"


def summary(item: object) -> str:
    """Returns the first sentence of a docstring, on one line that is safe in a table."""
    first = (inspect.getdoc(item) or "").split("\n\n")[0]
    return re.split(r"(?<=\.)\s", " ".join(first.split()), maxsplit=1)[0].replace("|", "\\|")


def pages() -> dict[str, str]:
    """Returns the page of each topic, by its path in the site."""
    made = {topic: page(topic, found) for topic, found in topics().items()}
    made |= {topic: listed(topic, list(others(modules))) for topic, modules in COMPAT.items()}
    return {f"{FOLDER}/{slug(topic)}": text for topic, text in made.items()}


def page(topic: str, found: list[str]) -> str:
    """Returns one page: what its modules are for, an overview, and an entry for each name."""
    lines = []
    for name in found:
        item = getattr(gx, name)
        if isinstance(item, ModuleType) or hasattr(item, "__path__"):
            lines += [f"## `gx.{name}` {{ #gradtx.{name} }}", "", summary(item), ""]
    return listed(topic, [entry for name in found for entry in entries(name)], *lines)


def listed(topic: str, found: list[tuple[str, object]], *lines: str) -> str:
    """Returns a page with a title, some lines, an overview of full names, and an entry for each name."""
    rows = [f"| [`{short(full)}`][{full}] | {summary(item)} |" for full, item in found]
    table = ["| name | what it does |", "| --- | --- |", *rows]
    return "\n".join([f"# {topic}", "", *lines, *table, *(f"\n::: {full}" for full, _ in found)]) + "\n"


def others(modules: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, object]]:
    """Yields the full names and objects in modules outside of the namespace."""
    for path, chosen in modules.items():
        module = importlib.import_module(path)
        yield from ((f"{path}.{name}", getattr(module, name)) for name in chosen or names(module))


def short(full: str) -> str:
    """Returns a full name as users write it."""
    return full if full.startswith("gradtx.compat.") else full.replace("gradtx.", "gx.", 1)


def index() -> str:
    """Returns the page that lists all topics, each with its names."""
    lines = ["# API reference", "", "Every public name, by topic. The search box above finds names, too.", ""]
    for topic, found in topics().items():
        links = ", ".join(f"[`{name}`][gradtx.{name}]" for name in found)
        lines += [f"## [{topic}]({slug(topic)})", "", links, ""]
    for topic, modules in COMPAT.items():
        links = ", ".join(f"[`{full.split('.')[-1]}`][{full}]" for full, _ in others(modules))
        lines += [f"## [{topic}]({slug(topic)})", "", links, ""]
    return "\n".join(lines)
