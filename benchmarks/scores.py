"""Makes the tables of `benchmarks.contract`: scores of the libraries by law, by corner and by method."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from tests.laws.subject import Law

CORNER = "corner"


@dataclasses.dataclass(frozen=True)
class Row:
    """The verdict of one law on one case."""

    library: str
    area: str
    method: str
    case: str
    law: str
    passed: int
    total: int
    problem: str
    """The first failure, or, where there is no question, why."""

    @property
    def fails(self) -> bool:
        return self.passed < self.total


def tables(rows: Sequence[Row], laws: Sequence[Law]) -> str:
    """Returns all tables in GitHub's format, with the first failure of the compared library for each score."""
    promises = {str(law): law.text.partition("\n\n")[0] for law in laws}
    order = list(promises)
    by_law = sorted((row for row in rows if row.law != CORNER), key=lambda row: order.index(row.law))
    by_method = sorted(by_law, key=lambda row: (row.area, row.method))
    corners = [row for row in rows if row.law == CORNER]
    both = _of_both(by_law)
    parts = {
        "Cases": _table(_labelled(rows, both), failures=False),
        "Laws": _table([(row.law, row) for row in by_law], promises),
        "Corners": _table([(row.method.replace("_", " "), row) for row in corners]),
        "Methods": _table([(f"{row.area}: `{row.method}`", row) for row in by_method]),
    }
    wrong = [row for row in rows if row.library == "gradtx" and row.fails]
    parts["gradtx fails"] = "\n".join(f"- {row.law}: `{row.case}`: {row.problem}" for row in wrong)
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items() if text)


def _of_both(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Returns the pairs of a case and a law that were checked for both libraries."""
    asked = collections.defaultdict(set)
    for row in rows:
        if row.total:
            asked[row.library].add((row.case, row.law))
    return set.intersection(*asked.values()) if asked else set()


def _labelled(rows: Sequence[Row], both: set[tuple[str, str]]) -> list[tuple[str, Row]]:
    found = [("all cases of each library", row) for row in rows]
    if len({row.library for row in rows}) > 1:
        found += [("the cases and laws that both have", row) for row in rows if (row.case, row.law) in both]
    return found


def _table(pairs: Sequence[tuple[str, Row]], promises: dict[str, str] | None = None, *, failures: bool = True) -> str:
    """Makes a table with a row for each label and a column for each library; `failures` adds the first failure."""
    groups: dict[str, dict[str, list[Row]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for label, row in pairs:
        groups[label][row.library].append(row)
    libraries = sorted({row.library for _, row in pairs})
    judged = [name for name in libraries if name != "gradtx" and failures]  # gradtx's are listed at the end
    lines = []
    for label, rows in groups.items():
        line = {"": label, **({"promise": promises[label]} if promises else {})}
        line |= {name: score(rows[name]) for name in libraries}
        line |= {f"first failure of {name}": first_failure(rows[name]) for name in judged}
        lines.append(line)
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True) if lines else ""


def score(rows: Iterable[Row]) -> str:
    """Formats a score: passed / total, and in parentheses the number of cases to which the law does not apply."""
    rows = list(rows)
    passed, total, none = sum(r.passed for r in rows), sum(r.total for r in rows), sum(r.total == 0 for r in rows)
    return " ".join(([f"{passed} / {total}"] if total else []) + ([f"({none})"] if none else []))


def first_failure(rows: Iterable[Row]) -> str:
    row = next((row for row in rows if row.fails), None)
    if row is None:
        return ""
    text = " ".join(row.problem.split()).replace("|", "\\|").replace("`", "'")
    return (f"`{row.case}`: " if row.law != CORNER else "") + (text if len(text) <= 90 else text[:87] + "...")
