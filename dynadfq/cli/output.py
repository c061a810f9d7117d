"""What commands print: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

Cell = str | int | float | None


def print_json(content: Any) -> None:
    """Print one JSON document; keys keep their order."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns under their names, two spaces apart; numbers to the right.

    >>> print(table(["name", "bits"], [["conv1", 4], ["fc", 16]]))
    name   bits
    conv1     4
    fc       16
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *texts, strict=True)]
    right = [
        all(not isinstance(row[i], str) for row in rows) and bool(rows) for i in range(len(head))
    ]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(head), *texts]
    )


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return (
        f"{cell:.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell
    )
