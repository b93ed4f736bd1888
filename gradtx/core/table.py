"""Tables for people: as text, as HTML in a notebook, and in color in a terminal where rich is installed."""

from __future__ import annotations

import html
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Shown", "Table", "number"]


class Table(NamedTuple):
    """A heading for each column, the rows, which columns are aligned to the right, and the title."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    title: str = ""

    def text(self) -> str:
        """The table in columns of equal width."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = [str.rjust if name in self.right else str.ljust for name in self.columns]
        body = [
            "  ".join(side(x, width) for side, x, width in zip(sides, line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join(([self.title] if self.title else []) + body)

    def html(self) -> str:
        """The table as an HTML element, which takes its colors from the page."""
        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        head = "".join(self._cell("th", name, name) for name in self.columns)
        body = "".join(
            f"<tr>{''.join(self._cell('td', name, x) for name, x in zip(self.columns, row, strict=True))}</tr>"
            for row in self.rows
        )
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cell(self, tag: str, name: str, text: str) -> str:
        side = "right" if name in self.right else "left"
        return f'<{tag} style="text-align:{side}">{html.escape(text)}</{tag}>'

    def rich(self) -> Any:
        """The table as one of rich's."""
        from rich.table import Table as Rich
        from rich.text import Text

        table = Rich(title=Text(self.title) if self.title else None, title_justify="left", box=None, pad_edge=False)
        for name in self.columns:
            table.add_column(name, justify="right" if name in self.right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


class Shown:
    """A value that prints as tables and lines of text: subclasses define `_parts_shown`."""

    def _parts_shown(self) -> Sequence[Table | str]:
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n\n".join(part if isinstance(part, str) else part.text() for part in self._parts_shown())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        parts = self._parts_shown()
        return "".join(
            f"<p>{html.escape(x)}</p>".replace("\n", "<br>") if isinstance(x, str) else x.html() for x in parts
        )

    def __rich__(self) -> Any:
        """What `rich.print` shows."""
        from rich.console import Group
        from rich.text import Text

        parts = [Text(part) if isinstance(part, str) else part.rich() for part in self._parts_shown()]
        return Group(*(x for part in parts for x in (part, Text(""))))

    def show(self) -> None:
        """Prints the value: in color if the output is a terminal and rich is installed, else as plain text."""
        if sys.stdout.isatty() and importlib.util.find_spec("rich"):
            from rich import print as rich_print

            rich_print(self)
        else:
            print(self)


def number(x: Any) -> str:
    """Formats a number with four digits, and None as a dash."""
    return "-" if x is None else f"{float(x):.4g}"
