"""Draws schedules and races from the command line.

python -m gradtx.viz schedule "cosine_decay_schedule(0.1, 1000)" --steps 1000 --out lr.png
python -m gradtx.viz race --optimizers yogi,adamw,lion,muon --problem rosenbrock --out race.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradtx
from gradtx.core.hyper import Schedule
from gradtx.viz.entries import entries
from gradtx.viz.expression import parse
from gradtx.viz.problems import PROBLEMS
from gradtx.viz.race_pictures import animate_race, plot_race
from gradtx.viz.races import race
from gradtx.viz.schedules import plot_schedules
from gradtx.viz.style import new_figure

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Draws a schedule or a race from command-line arguments, and returns the exit status.

    Args:
      argv: The command-line arguments; by default the arguments of this process.
    """
    parser = argparse.ArgumentParser(prog="python -m gradtx.viz", description="Pictures of gradtx's values.")
    commands = parser.add_subparsers(required=True, metavar="what")
    _add_schedule(commands)
    _add_race(commands)
    args = parser.parse_args(argv)
    try:
        _check_out(args.out)
        args.draw(args, {name: getattr(gradtx, name) for name in gradtx.__all__})
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _check_out(out: str) -> None:
    """Raises an error, before any work, if the picture cannot be written to `out`."""
    folder, kind = Path(out).parent, Path(out).suffix[1:].lower()
    kinds = new_figure(1, 1).canvas.get_supported_filetypes()
    if not folder.is_dir():
        raise ValueError(f"--out {out}: there is no folder {folder}. Make it first.")
    if kind and kind not in kinds:
        raise ValueError(f"--out {out}: cannot write {kind!r} files. The file name must end in .{', .'.join(kinds)}.")


def _add_schedule(commands: Any) -> None:
    command = commands.add_parser("schedule", help="the curves of schedules over the steps")
    command.add_argument(
        "expressions", nargs="+", metavar="expression", help='as in "cosine_decay_schedule(0.1, 1000)"'
    )
    command.add_argument("--steps", type=int, required=True, help="how many steps to draw")
    command.add_argument("--out", required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    command.set_defaults(draw=_draw_schedule)


def _draw_schedule(args: argparse.Namespace, names: Mapping[str, Any]) -> None:
    schedules = {text: parse(text, names) for text in args.expressions}
    for text, value in schedules.items():
        if not isinstance(value, Schedule):
            raise ValueError(
                f"{text} is not a schedule, but a {type(value).__name__}. Write one such as "
                "cosine_decay_schedule(0.1, 1000)."
            )
    plot_schedules(schedules, args.steps).savefig(args.out, dpi=150)


def _add_race(commands: Any) -> None:
    command = commands.add_parser(
        "race",
        help="optimizers on a function of two variables, each at its best learning rate",
        description="Optimizers on a function of two variables. An optimizer without a learning rate runs at its best "
        "learning rate: of 61 learning rates from 1e-4 to 10, the one with which it reaches the minimum first.",
    )
    command.add_argument(
        "--optimizers", required=True, metavar="LIST", help='names or calls, as in "yogi,sgd(momentum=0.9),dog"'
    )
    command.add_argument("--problem", choices=tuple(PROBLEMS), default="rosenbrock", help="default: %(default)s")
    command.add_argument("--steps", type=int, default=300, help="of each optimizer (default: %(default)s)")
    command.add_argument("--decay", action="store_true", help="let each learning rate decay to zero, along a cosine")
    command.add_argument("--out", required=True, metavar="FILE", help="a picture (.png, .svg, .pdf) or a film (.gif)")
    command.set_defaults(draw=_draw_race)


def _draw_race(args: argparse.Namespace, names: Mapping[str, Any]) -> None:
    found = entries(args.optimizers, names)
    result = race(found, args.problem, args.steps, decay=args.decay)
    if args.out.lower().endswith(".gif"):
        animate_race(result, args.out, progress=_progress())
    else:
        plot_race(result).savefig(args.out, dpi=150)


def _progress() -> Any:
    """Returns a function that shows a progress bar if tqdm is installed, else a function that does nothing."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter
    return partial(tqdm, unit="picture", file=sys.stderr, disable=None)


if __name__ == "__main__":
    sys.exit(main())
