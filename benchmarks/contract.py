"""Counts how many cases pass each law of the contract, law by law and method by method, for gradtx and for optax.

    pip install -e '.[test]'
    python -m benchmarks.contract                          # both, side by side
    python -m benchmarks.contract --library optax --area optimizers --json optax.json

The program finds every public constructor in the namespace of a library, and calls it with the settings of
`tests/cases.py`. It checks every case against every law of `gradtx.testing` and `tests/laws`, with the same public
calls for both libraries. Cases to which a law does not apply are counted separately. A law may not apply because optax
has no counterpart (laws 1, 2 and 12), or because a method names the law, with a reason, as one that it cannot keep. Law
11 makes many calls for one case; its passed / total counts calls, while all other laws count cases.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tqdm import tqdm

import gradtx as gx
from benchmarks.report import environment as versions
from benchmarks.scores import CORNER, Row, tables
from tests import environment
from tests.cases import Case
from tests.laws import LAWS
from tests.laws.corners import CORNERS
from tests.laws.subject import Subject, judge
from tests.libraries import LIBRARIES, its_rules

MARK = "<!-- scores -->"


def area(method: str) -> str:
    """Returns the folder of gradtx that contains a method; `optimizers` for a method that only optax has."""
    module = getattr(getattr(gx, method, None), "__module__", "")
    return module.split(".")[1] if module.startswith("gradtx.") else "optimizers"


def rows_of_case(library: str, case: Case) -> list[Row]:
    """Returns the verdicts of all laws on one case."""
    verdicts = judge(Subject(case, LIBRARIES[library]), LAWS)
    environment.make_room()
    name = case.constructor
    return [Row(library, area(name), name, case.expression, str(v.law), v.passed, v.total, v.problem) for v in verdicts]


def rows_of_corner(library: str, name: str) -> list[Row]:
    """Returns the verdict on one corner case."""
    problem = ""
    try:
        CORNERS[name](LIBRARIES[library])
    except Exception as error:  # whatever a wrong answer looks like
        problem = " ".join(str(error).split())[:300]
    return [Row(library, "corners", name, name, CORNER, int(not problem), 1, problem)]


Task = tuple[Callable[..., list[Row]], Any, Any]
"""What is to be asked: a function, the library and the case or corner."""


def tasks(libraries: Iterable[str], areas: Sequence[str], every: int) -> list[Task]:
    """Returns all cases and corners to check, or a regular sample of them."""
    found: list[Task] = []
    for name in libraries:
        with its_rules(LIBRARIES[name]):
            cases = [case for case in LIBRARIES[name].cases() if not areas or area(case.constructor) in areas]
        found += [(rows_of_case, name, case) for case in cases[::every]]
        if not areas or "corners" in areas:
            found += [(rows_of_corner, name, corner) for corner in CORNERS]
    return found


def run(todo: Sequence[Task], jobs: int) -> list[Row]:
    """Computes all rows, in several processes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(*task) for task in todo]
        done = concurrent.futures.as_completed(futures)
        for _ in tqdm(done, total=len(futures), file=sys.stderr, disable=None):
            pass
    return [row for future in futures for row in future.result()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--area", nargs="+", default=[], help="folders of gradtx, and corners; all by default")
    parser.add_argument("--every", type=int, default=1, help="only one case in so many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=pathlib.Path, help="where to write every row")
    parser.add_argument("--page", type=pathlib.Path, help="a page whose part after its `scores` mark is written anew")
    args = parser.parse_args(arguments)
    started = time.monotonic()
    todo = tasks(args.library, args.area, args.every)
    areas = sorted({"corners", *(area(name) for library in LIBRARIES.values() for name in library.constructors())})
    if not set(args.area) <= set(areas):
        parser.error(f"--area takes {', '.join(areas)}; got {' '.join(args.area)}")
    rows = run(todo, args.jobs)
    took = f"{(time.monotonic() - started) / 60:.0f} minutes, {args.jobs} processes"
    if args.json:
        args.json.write_text(json.dumps({**versions(), "rows": [dataclasses.asdict(row) for row in rows]}, indent=1))
    scores = tables(rows, LAWS) + f"\n\n{took}; " + ", ".join(f"{name} {x}" for name, x in versions().items())
    print(scores)
    if args.page:
        begin = args.page.read_text().partition(MARK)[0]
        args.page.write_text(f"{begin}{MARK}\n\n{scores}\n")
    if any(row.library == "gradtx" and row.fails for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
