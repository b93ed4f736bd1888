"""Measures how long it takes to import gradtx and optax after `import jax`.

    python -m benchmarks.imports
    python -m benchmarks.imports --repeats 3

Every figure is the median over new processes that have imported jax before the clock starts. The columns are:

import       `import gradtx`, or `import optax`
adamw        the import, and `adamw(1e-3)`
everything   `from gradtx import *`, or `import optax.contrib`

In the rows `cached`, the bytecode exists from an earlier run, as it does for users from the second import on. In the
rows `compiled`, Python first compiles every file of the library, and of the packages that it imports besides jax. The
processes take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tabulate import tabulate

STATEMENTS = {
    "gradtx": ("import gradtx", "import gradtx; gradtx.adamw(1e-3)", "from gradtx import *"),
    "optax": ("import optax", "import optax; optax.adamw(1e-3)", "import optax.contrib"),
}

PROGRAM = """
import sys, time, jax
sys.dont_write_bytecode, sys.pycache_prefix = {afresh}, {folder!r}
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""


def seconds(statement: str, folder: str, *, afresh: bool = False) -> float:
    """Measures how long a statement takes in a new process that has imported jax.

    `folder` has the compiled bytecode: the first run fills it. With `afresh=True` it must be empty, and stays so.
    """
    code = PROGRAM.format(statement=statement, folder=folder, afresh=afresh)
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))


def measure(repeats: int) -> dict[tuple[str, bool, str], float]:
    """Returns the medians, by library, by whether its files must be compiled first, and by statement."""
    asked = [(name, afresh, x) for name, found in STATEMENTS.items() for afresh in (False, True) for x in found]
    samples: dict[tuple[str, bool, str], list[float]] = {key: [] for key in asked}
    with tempfile.TemporaryDirectory() as full, tempfile.TemporaryDirectory() as empty:
        for _, _, statement in asked:
            seconds(statement, full)
        for _ in range(repeats):
            for name, afresh, statement in asked:
                took = seconds(statement, empty if afresh else full, afresh=afresh)
                samples[name, afresh, statement].append(took)
    return {key: statistics.median(x) for key, x in samples.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="processes for each figure (%(default)s)")
    medians = measure(parser.parse_args(argv).repeats)
    rows = [
        [name, "compiled" if afresh else "cached", *(f"{1e3 * medians[name, afresh, x]:.3g}" for x in found)]
        for afresh in (False, True)
        for name, found in STATEMENTS.items()
    ]
    headers = ["milliseconds", "bytecode", "import", "adamw", "everything"]
    print(tabulate(rows, headers, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
