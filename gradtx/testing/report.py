"""The result of `check`: a verdict for each law, which prints as a table."""

from __future__ import annotations

import dataclasses
import textwrap

from gradtx.testing.subject import Verdict, explained

__all__ = ["Report"]

WIDTH = 70
"""The width of the table's last column."""


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The verdicts of all laws about one transformation, which `check` returns.

    `print(report)` shows a table with the number and the name of each law, the outcome (kept, broken or does not
    apply), and the reason.

    Args:
      expression: The repr of the transformation.
      verdicts: A tuple of `Verdict`, one for each law.

    >>> import gradtx as gx
    >>> report = gx.testing.check(gx.scale(0.1), laws=["abstract init"])
    >>> [(v.number, v.name, v.passed, v.total, v.problem) for v in report.verdicts]
    [(7, 'abstract init', 1, 1, '')]
    """

    expression: str
    """The transformation as text."""
    verdicts: tuple[Verdict, ...]
    """A verdict for each law: its `number` and `name`, how many of its `total` checks `passed`, and the first
    `problem`."""

    @property
    def passed(self) -> bool:
        """Whether no law is broken."""
        return all(verdict.passed == verdict.total for verdict in self.verdicts)

    def raise_if_broken(self) -> None:
        """Raises an error that lists each broken law, what it promises, and the failure.

        Raises:
          AssertionError: a law is broken.
        """
        if not self.passed:
            count = sum(verdict.passed < verdict.total for verdict in self.verdicts)
            laws = "1 law" if count == 1 else f"{count} laws"
            raise AssertionError(f"{self.expression} breaks {laws}.\n\n{explained(self.verdicts)}")

    def __str__(self) -> str:
        rows = [("law", "name", "outcome", "why")]
        for v in self.verdicts:
            lines = textwrap.wrap(_why(v), WIDTH) or [""]
            rows.append((str(v.number), v.name, v.outcome, lines[0]))
            rows += [("", "", "", line) for line in lines[1:]]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        table = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[3]] for row in rows]
        return "\n".join([self.expression, *("  ".join(row).rstrip() for row in table)])

    __repr__ = __str__


def _why(verdict: Verdict) -> str:
    if verdict.passed < verdict.total > 1:
        return f"{verdict.total - verdict.passed} of {verdict.total}: {verdict.problem}"
    return verdict.problem
