"""What the scripts of the textbook have in common: how each runs alone, and how the page of all pictures is written.

A script is a module with

- a docstring: the title in the first line, then a short explanation of what the picture shows;
- `FORMULAS`: the formulas that the picture is about, each with its source;
- `compute()`: the numbers, in a NamedTuple, without any drawing, so that tests can check them;
- `draw(result)`: the picture, a matplotlib figure;
- `conclusion(result)`: what the picture shows, in one sentence with numbers from the result.

Its last lines run it, as `python -m examples.textbook.NAME` does: `if __name__ == "__main__": page.main(__file__)`.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jinja2
from latex2mathml.converter import convert

import gradtx as gx

OUT = Path("out/textbook")


class Formula(NamedTuple):
    """A formula in LaTeX, what it says, and where it stands."""

    latex: str
    meaning: str
    source: str
    url: str = ""


class Entry(NamedTuple):
    """A script's part of the page."""

    name: str
    title: str
    text: list[str]
    formulas: list[tuple[str, Formula]]
    conclusion: str


def main(file: str) -> None:
    """Runs one script: draws its picture and prints its conclusion."""
    entry = run(importlib.import_module(f"examples.textbook.{Path(file).stem}"), OUT)
    print(f"{entry.conclusion}\n{OUT / entry.name}.png")


def run(script: ModuleType, out: Path) -> Entry:
    """Saves the picture of a script to `out`, and returns its part of the page."""
    result = script.compute()
    out.mkdir(parents=True, exist_ok=True)
    name = script.__name__.rsplit(".", 1)[-1]
    with gx.viz.style():
        script.draw(result).savefig(out / f"{name}.png")
    title, *text = inspect.cleandoc(script.__doc__ or "").split("\n\n")
    formulas = [(convert(formula.latex, display="block"), formula) for formula in script.FORMULAS]
    return Entry(name, title.rstrip("."), text, formulas, script.conclusion(result))


def write(entries: list[Entry], out: Path) -> Path:
    """Writes the page of all pictures to `out` and returns its path."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True)
    path = out / "index.html"
    path.write_text(environment.get_template("page.html").render(entries=entries), encoding="utf-8")
    return path
