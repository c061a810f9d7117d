"""Output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Cell = str | int | float | None
NO_LIMIT = 10_000  # columns of a file or pipe


def print_json(content: Any) -> None:
    """Print one JSON document; keys keep their order.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot write.
    """
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def output_file(path: Path, option: str) -> Path:
    """Return the file that an option names; of a link the file that it leads to.

    Raises:
        ValueError: a folder, a device or the like is there, which a file must not replace.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise ValueError(f"{option}: {path} is {kind}; name a file")
    return target


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], with_head: bool = True
) -> None:
    """Print rows under their column names, numbers to the right.

    A terminal's width is kept; elsewhere a row is one plain line.

    >>> print_table(["name", "bits"], [["conv1", 4], ["fc", 16]])
    name   bits
    conv1     4
    fc       16
    """
    from rich.console import Console  # here, because help must not wait for it
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=with_head)
    for number, name in enumerate(head):
        table.add_column(name, min_width=len(name), overflow="fold")
        if rows and not any(isinstance(row[number], str) for row in rows):
            table.columns[number].justify = "right"
    for row in rows:
        table.add_row(*map(_text, row))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = NO_LIMIT
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.2f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell
