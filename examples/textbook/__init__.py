"""The chapter on optimization in pictures: `python -m examples.textbook` draws them and writes a page of them."""

from __future__ import annotations

from pathlib import Path

CHAPTER = (
    *("risk", "minima", "convexity", "constraints", "descent", "newton", "rates", "momentum"),
    *("adaptive", "adam", "yogi", "schedules", "warmup", "race", "range_test", "sweep", "hypergradients"),
)
"""The scripts in the order of the chapter. What is not in it comes after them."""


def scripts() -> list[str]:
    """Returns the names of all scripts: the files of this folder that run as programs."""
    files = Path(__file__).parent.glob("*.py")
    found = sorted(path.stem for path in files if "page.main(__file__)\n" in path.read_text(encoding="utf-8"))
    return sorted(found, key=lambda name: CHAPTER.index(name) if name in CHAPTER else len(CHAPTER))
