"""Draws the pictures of the site when it is built: schedules, races of optimizers, and the textbook.

Pictures are kept in `.cache/docs`, under a name that depends on the sources, so that `mkdocs serve` draws each picture
only once. With `GRADTX_DOCS=quick` the textbook is only a page of links, and races try few learning rates.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup, escape

import gradtx as gx
from docs import optimizers
from examples import textbook
from examples.textbook import page as chapter
from gradtx.viz.entries import entries

__all__ = ["quick", "races", "schedules", "textbook_page"]

HERE = Path(__file__).parent
ROOT = HERE.parent
CACHE = ROOT / ".cache" / "docs"
STEPS = 300


def quick() -> bool:
    """Returns whether the site is built in its short form, with `GRADTX_DOCS=quick`."""
    return os.environ.get("GRADTX_DOCS") == "quick"


def drawn(name: str, draw: Callable[[Path], None], *sources: object) -> Path:
    """Returns the path of a picture, and draws the picture unless it was drawn from the same sources before."""
    digest = hashlib.sha256(repr((sources, inspect.getsource(draw))).encode() + code()).hexdigest()[:16]
    path = CACHE / digest / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path)
    return path


@functools.cache
def code() -> bytes:
    """Returns a digest of the sources of the package and the textbook; pictures are redrawn when it changes."""
    files = [*(ROOT / "gradtx").rglob("*.py"), *(ROOT / "examples" / "textbook").glob("*.py")]
    return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(files))


def typed() -> dict[str, dict[str, dict[str, str]]]:
    """Returns the contents of `gallery.toml`: the expression of each schedule, and the families of optimizers."""
    return tomllib.loads((HERE / "gallery.toml").read_text(encoding="utf-8"))


def evaluated(expression: str) -> object:
    """Evaluates an expression such as `gx.cosine_decay_schedule(0.1, 1000)`."""
    import jax.numpy as jnp

    return eval(expression, {"gx": gx, "jnp": jnp})


def schedules() -> tuple[str, dict[str, Path]]:
    """Returns the gallery of schedules in Markdown, and a dict from paths in the site to pictures."""
    lines, pictures = [], {}
    for name, entry in typed()["schedules"].items():

        def draw(path: Path, name: str = name, entry: dict[str, str] = entry) -> None:
            gx.viz.plot_schedules({name: evaluated(entry["call"])}, STEPS).savefig(path, dpi=80)  # pyright: ignore

        site = f"images/schedules/{name}.png"
        pictures[site] = drawn(f"{name}.png", draw, entry)
        lines += [f"### {name} {{ #{name} }}", "", f"[Reference][gradtx.{name}]. {entry['pick']}", ""]
        lines += ["```py", entry["call"], "```", "", f"![The curve of {name} over {STEPS} steps]({site})", ""]
    return "\n".join(lines), pictures


def races() -> tuple[str, dict[str, Path]]:
    """Returns the gallery of optimizers in Markdown: for each family a race, and when to pick each of its members."""
    lines, pictures = [], {}
    advice = optimizers.typed()
    for family, entry in typed()["families"].items():
        title, about = entry["title"], entry["about"]
        problem, steps = entry.get("problem", "rosenbrock"), int(entry.get("steps", 500))

        def draw(path: Path, entry: dict[str, str] = entry, problem: str = problem, steps: int = steps) -> None:
            found = entries(", ".join(entry["members"]), vars(gx))
            rates = {"rates": (1e-3, 1e-2, 1e-1)} if quick() else {}
            result = gx.viz.race(found, problem, steps, decay=bool(entry.get("decay")), **rates)
            gx.viz.plot_race(result).savefig(path, dpi=100, bbox_inches="tight")

        site = f"images/races/{family}.png"
        pictures[site] = drawn(f"{family}.png", draw, entry, quick())
        lines += [f"## {title}", "", about, "", f"![{title}: a race on the {problem} function]({site})", ""]
        named = [member.split("(")[0] for member in entry["members"]]
        lines += [f"- [`{name}`][gradtx.{name}]: {advice[name]['pick']}" for name in dict.fromkeys(named)]
        lines += [""]
    return "\n".join(lines), pictures


def textbook_page() -> tuple[str, dict[str, Path]]:
    """Returns the textbook in Markdown and its pictures: a section for each script, with formulas and conclusion."""
    lines, pictures = [], {}
    for name in textbook.scripts():
        if quick():
            script = importlib.import_module(f"examples.textbook.{name}")
            lines += [explained(name, *chapter.explanation(script.__doc__ or ""), script.FORMULAS), ""]
            continue
        source = (ROOT / "examples" / "textbook" / f"{name}.py").read_text(encoding="utf-8")

        def draw(path: Path, name: str = name) -> None:
            made = chapter.attempt(name, path.parent)
            if isinstance(made, str):
                raise RuntimeError(f"examples.textbook.{name} failed:\n{made}")
            path.with_suffix(".html").write_text(section(made), encoding="utf-8")

        picture = drawn(f"{name}.png", draw, source)
        pictures[f"images/textbook/{name}.png"] = picture
        lines += [picture.with_suffix(".html").read_text(encoding="utf-8"), ""]
    return "\n".join(lines), pictures


def section(entry: chapter.Entry) -> str:
    """Returns the section of the page for one script."""
    width, height = entry.size
    picture = (
        f'<img alt="{escape(entry.alt)}" src="images/textbook/{entry.name}.png" width="{width}" height="{height}">'
    )
    command = f"<p><code>python -m examples.textbook.{entry.name}</code> draws it.</p>"
    text = explained(entry.name, entry.title, entry.text, entry.formulas)
    return "\n\n".join([text, f"<p>{picture}</p>", f"<p><strong>{escape(entry.conclusion)}</strong></p>", command])


def explained(name: str, title: str, text: list[Markup], formulas: list[chapter.Formula]) -> str:
    """Returns the heading of a script, its explanation and its formulas."""
    lines = [f"## {title} {{ #{name} }}", *(f"<p>{part}</p>" for part in text)]
    for formula in formulas:
        where = f'<a href="{formula.url}">{escape(formula.source)}</a>' if formula.url else escape(formula.source)
        about = f"<p>{escape(formula.meaning)} <small>{where}</small></p>"
        lines.append(f'<div class="formula">{formula.mathml}{about}</div>')
    return "\n\n".join(lines)
