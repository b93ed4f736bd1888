"""Runs a single script of the textbook, and writes the page of all pictures.

A script is a module with

- a docstring: the title in the first line, then a short explanation of what the picture shows;
- `FORMULAS`: the formulas that the picture is about, each with its source;
- `compute()`, which returns the data of the picture in a NamedTuple, so that tests can check them without drawing;
- `draw(result)`, which returns the picture, a matplotlib figure in which every panel has a title;
- `conclusion(result)`, which returns in one line what the picture shows, with numbers from the result.

The last lines of a script are `if __name__ == "__main__": page.main(__file__)`, so that
`python -m examples.textbook.NAME` runs it.
"""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jinja2
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from matplotlib.figure import Figure

import gradtx as gx

OUT = Path("out/textbook")


class Formula(NamedTuple):
    """A formula in LaTeX, what it says, and where it stands."""

    latex: str
    meaning: str
    source: str
    url: str = ""

    @property
    def mathml(self) -> Markup:
        """Returns the formula in MathML, in parts between which a narrow page may break the line."""
        parts = re.split(r"\\q?quad", self.latex)
        whole = all(_pairs(part, "{", "}") and _pairs(part, r"\\left\b", r"\\right\b") for part in parts)
        return Markup("\n").join(_mathml(part) for part in (parts if whole else [self.latex]))


def _pairs(text: str, opening: str, closing: str) -> bool:
    return len(re.findall(opening, text)) == len(re.findall(closing, text))


def _mathml(latex: str) -> Markup:
    """Converts LaTeX to MathML, with primes as operators and thin spaces around the names of functions."""
    text = re.sub("<mi>(&#x0203[23];)</mi>", r"<mo>\1</mo>", convert(latex, display="block"))
    name = "(?<!<msup>)(?<!<msub>)<mi>(?:cosh?|sinh?|tanh?|log|exp)</mi>"  # a power has room for two children only
    space = '<mspace width="0.17em"/>'
    text = re.sub(f"(?<=</mi>|</mn>)(?={name})", space, text)
    return Markup(re.sub(f"({name})(?=<m[in]>)", rf"\1{space}", text))


class Entry(NamedTuple):
    """A script's part of the page."""

    name: str
    title: str
    text: list[Markup]
    formulas: list[Formula]
    conclusion: str
    alt: str
    size: tuple[int, int]  # the size of the picture in pixels of the page


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
        figure = script.draw(result)
        figure.savefig(out / f"{name}.png")
    title, text = explanation(script.__doc__ or "")
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return Entry(
        name, title, text, list(script.FORMULAS), script.conclusion(result), panels(figure), size=(width, height)
    )


def attempt(name: str, out: Path) -> Entry | str:
    """Returns a script's part of the page, or the traceback of its error."""
    try:
        return run(importlib.import_module(f"examples.textbook.{name}"), out)
    except Exception:  # any error: the other scripts must still run
        return traceback.format_exc()


def explanation(docstring: str) -> tuple[str, list[Markup]]:
    """Returns the title of a script and the paragraphs below it in HTML, with `code` for words in backticks."""
    title, *text = inspect.cleandoc(docstring).split("\n\n")
    return title.rstrip("."), [Markup(re.sub("`(.+?)`", r"<code>\1</code>", str(escape(p)))) for p in text]


def panels(figure: Figure) -> str:
    """Returns a description of a picture for readers who cannot see it: the titles of its panels."""
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    titles = [title.replace("$", "").replace("\n", " ") for title in titles]
    return f"{len(titles)} panels: {'; '.join(titles)}." if len(titles) > 1 else "".join(titles)


def write(entries: list[Entry], out: Path) -> Path:
    """Writes the page of all pictures to `out` and returns its path."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    path.write_text(environment.get_template("page.html").render(entries=entries), encoding="utf-8")
    return path
