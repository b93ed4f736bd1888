"""Compares compiled steps with optax's, except where `reasons.toml` gives a reason why gradtx's step has more."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Collection, Mapping

from benchmarks.program import Program

FILE = pathlib.Path(__file__).with_suffix(".toml")

SLACK = {"kernels": (1.0, 0), "copies": (1.0, 0), "bytes_accessed": (1.01, 1024), "temporary_bytes": (1.05, 12 * 1024)}
"""The columns that are compared, with the factor and the number by which gradtx's may be larger."""


def dearer(ours: Program, theirs: Program) -> list[str]:
    """Returns the columns in which gradtx has more than optax.

    A copy is a kernel, too: where gradtx has fewer copies, it may have so many kernels more.
    """
    found = []
    for column, (factor, slack) in SLACK.items():
        allowed = getattr(theirs, column) * factor + slack
        if column == "kernels":
            allowed += max(theirs.copies - ours.copies, 0)
        if getattr(ours, column) > allowed:
            found.append(column)
    return found


def unexplained(more: Mapping[tuple[str, str], str], methods: Collection[str]) -> list[str]:
    """Returns, for some methods, the findings without a reason and the reasons without a finding."""
    given = {(name, column) for name, why in tomllib.loads(FILE.read_text()).items() for column in why}
    stale = sorted((name, column) for name, column in given - more.keys() if name in methods)
    return [text for key, text in more.items() if key not in given] + [
        f"{name}: optax has as many {column} now; take the reason out of {FILE.name}" for name, column in stale
    ]
