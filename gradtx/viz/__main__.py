"""Pictures from a shell: python -m gradtx.viz schedule "cosine_decay_schedule(0.1, 1000)" --steps 1000 --out lr.png."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import gradtx
from gradtx.core.hyper import Schedule
from gradtx.viz.expression import parse
from gradtx.viz.schedules import plot_schedules

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Draws what the arguments say; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gradtx.viz", description="Pictures of gradtx's values.")
    commands = parser.add_subparsers(required=True, metavar="what")
    command = commands.add_parser("schedule", help="the curves of schedules over the steps")
    command.add_argument(
        "expressions", nargs="+", metavar="expression", help='as in "cosine_decay_schedule(0.1, 1000)"'
    )
    command.add_argument("--steps", type=int, required=True, help="how many steps to draw")
    command.add_argument("--out", required=True, metavar="FILE", help="the picture: .png, .svg or .pdf")
    args = parser.parse_args(argv)
    names = {name: getattr(gradtx, name) for name in gradtx.__all__}
    try:
        schedules = {text: parse(text, names) for text in args.expressions}
        for text, value in schedules.items():
            if not isinstance(value, Schedule):
                raise ValueError(f"{text} is no schedule, but a {type(value).__name__}.")
        plot_schedules(schedules, args.steps).savefig(args.out, dpi=150)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
