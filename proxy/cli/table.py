"""Aligned columns."""

import unicodedata
from collections.abc import Sequence

from proxy.cli.screen import Painted, Part, Screen, escape

GAP = "  "


def show_table(
    screen: Screen, header: Sequence[str], rows: Sequence[Sequence[Part]], below: Sequence[Sequence[str]] = ()
) -> None:
    """Print rows under a header.

    Args:
        rows: an empty cell is shown as `-`, so that a column keeps its number for other programs.
        below: for each row the lines that follow it, outside of the columns; may be left out.
    """
    titles: list[Part] = [Painted(name, "bold") for name in header]
    cells = [titles, *[[cell or "-" for cell in row] for row in rows]]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        parts: list[Part] = []
        for cell, width in zip(row, widths, strict=True):
            parts += [cell, " " * (width - _width(cell)), GAP]
        screen.line(*parts)
        if number and below:
            for line in below[number - 1]:
                screen.line(line)


def _width(cell: Part) -> int:
    """Columns a cell takes on a terminal: East Asian wide characters take two, combining ones none."""
    text = escape(cell if isinstance(cell, str) else cell.text)
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
