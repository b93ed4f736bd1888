"""Draws all pictures of the textbook, and writes the page that shows them: `python -m examples.textbook`.

Scripts run in one process per core. If a script fails, its name and its traceback are printed at the end, and the page
shows the other scripts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from examples.textbook import page, scripts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.textbook", description="Draws the textbook's pictures.")
    parser.add_argument("names", nargs="*", metavar="script", help=f"default: all. {', '.join(scripts())}")
    parser.add_argument("--out", type=Path, default=page.OUT, help="folder of the page (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(scripts()):
        parser.error(f"there is no script {', '.join(sorted(unknown))}; there are {', '.join(scripts())}")

    names = args.names or scripts()
    entries: dict[str, page.Entry] = {}
    failed: dict[str, str] = {}
    with tqdm(total=len(names), unit="picture") as bar:
        for name, found in drawn(names, args.out, min(args.jobs, len(names))):
            bar.set_postfix_str(name, refresh=False)
            bar.update()
            if isinstance(found, page.Entry):
                entries[name] = found
            else:
                failed[name] = found
    print(page.write([entries[name] for name in names if name in entries], args.out))
    for name, text in failed.items():
        print(f"\nexamples.textbook.{name} failed:\n{text}", file=sys.stderr)
    return 1 if failed else 0


def drawn(names: list[str], out: Path, jobs: int) -> Iterator[tuple[str, page.Entry | str]]:
    """Runs scripts in `jobs` processes; yields each name at the end, with its part of the page or a traceback."""
    if jobs < 2:
        yield from ((name, page.attempt(name, out)) for name in names)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[page.Entry | str], str] = {pool.submit(page.attempt, name, out): name for name in names}
        for future in as_completed(futures):
            error = future.exception()  # its process died; a script that raises returns a traceback instead
            yield futures[future], f"{error!r}\n" if error else future.result()


if __name__ == "__main__":
    sys.exit(main())
