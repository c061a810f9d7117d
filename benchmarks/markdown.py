"""Markdown tables, as all reports of the benchmarks have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1) -> str:
    """Return a Markdown table; columns after the first ``words`` are aligned to the right.

    >>> print(markdown_table(("file", "bytes", "share"), [("a|b", 1024, 0.5)]), end="")
    | file | bytes | share |
    | --- | ---: | ---: |
    | a\\|b | 1,024 | 0.50 |
    """
    marks = ["---" if place < words else "---:" for place in range(len(head))]
    lines = [head, marks, *([cell_text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell_text(cell: Any) -> str:
    """Return a number with two decimals or separated thousands, a dash for None."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.2f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return str(cell).replace("|", "\\|")
