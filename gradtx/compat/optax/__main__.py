"""Lists the places of a code base that need attention when it moves from optax to gradtx.

    python -m gradtx.compat.optax path/ [path ...] [--native]

It reads Python files and notebooks, and changes nothing. Each line of the output gives a location (file:line:column),
the difference, and what to do. The exit status is 0 if no place needs attention, 1 if some places do, and 2 for wrong
arguments, such as a path that does not exist.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence

from gradtx.compat.optax.codemod import find

__all__ = ["main", "python_files"]

SKIPPED = ("__pycache__", "site-packages", "node_modules")
"""Folders that are skipped, in addition to hidden folders."""


def python_files(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the Python files and notebooks under a path, but skips hidden folders and installed packages."""
    if path.is_file():
        yield path
        return
    for found in sorted(path.rglob("*")):
        parts = found.relative_to(path).parts
        skipped = any(part.startswith(".") or part in SKIPPED for part in parts)
        if found.suffix in (".py", ".ipynb") and found.is_file() and not skipped:
            yield found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m gradtx.compat.optax",
        description="Lists the places that need attention when code moves from optax to gradtx. Changes nothing.",
        epilog="Exit status: 0 if no place needs attention, 1 if some places do, 2 for wrong arguments.",
    )
    parser.add_argument("paths", nargs="+", type=pathlib.Path, help="Python files, notebooks, or folders with them")
    parser.add_argument(
        "--native",
        action="store_true",
        help="also list what changes with gradtx's own names; by default only with gradtx.compat.optax",
    )
    given = parser.parse_args(arguments)
    for path in given.paths:
        if not path.exists():
            parser.error(f"there is no {path}")
    files = list(dict.fromkeys(file for path in given.paths for file in python_files(path)))
    found = [finding for file in files for finding in find(file, native=given.native)]
    for finding in found:
        print(finding)
    places = f"{len(found)} place{'s' * (len(found) != 1)}"
    print(f"{places} to look at in {len(files)} file{'s' * (len(files) != 1)}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
