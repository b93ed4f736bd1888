"""Draws all pictures of the textbook, and writes the page that shows them: `python -m examples.textbook`.

A script that fails is named at the end, with its traceback. The page then has the others.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path

from tqdm import tqdm

from examples.textbook import page, scripts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.textbook", description="Draws the textbook's pictures.")
    parser.add_argument("names", nargs="*", metavar="script", help=f"default: all. {', '.join(scripts())}")
    parser.add_argument("--out", type=Path, default=page.OUT, help="folder of the page (default: %(default)s)")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(scripts()):
        parser.error(f"there is no script {', '.join(sorted(unknown))}; there are {', '.join(scripts())}")

    entries: list[page.Entry] = []
    failed: dict[str, str] = {}
    with tqdm(args.names or scripts(), unit="picture") as bar:
        for name in bar:
            bar.set_postfix_str(name)
            try:
                entries.append(page.run(importlib.import_module(f"examples.textbook.{name}"), args.out))
            except Exception:  # whatever it is: the other scripts still run
                failed[name] = traceback.format_exc()
    print(page.write(entries, args.out))
    for name, text in failed.items():
        print(f"\nexamples.textbook.{name} failed:\n{text}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
