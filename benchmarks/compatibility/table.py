"""The table as a file for programs (CSV) and as a page for people (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.compatibility.row import COLUMNS, UNTRIED, Row
from benchmarks.markdown import markdown_table
from dynadfq.runtime.resume import atomic_write

TABLE = Path("benchmarks/reports/compatibility.csv")
DOCUMENT = Path("docs/compatibility.md")
PACKAGES = ("torch", "torchvision", "timm", "pytorchcv", "fvcore")
INTRODUCTION = """\
# Does it work on my network?

{well} of the {all} architectures below pass every check; the list below the table says why the
others do not. Weights are random and batches have two images: the checks show that a network is
understood and that nothing is lost, not how accurate it becomes. `dynadfq inspect` shows the same
for your own network, layer by layer.

Made by `python -m benchmarks.compatibility` with {versions}.
"""


def versions() -> dict[str, str]:
    """Version of each package that a row depends on."""
    return {name: version(name).partition("+")[0] for name in PACKAGES}


def write(rows: Sequence[Row]) -> None:
    """Write the table and the page."""
    table = pd.DataFrame([{**row.as_dict(), "reasons": "\n".join(row.reasons)} for row in rows])
    atomic_write(TABLE, table.to_csv(index=False).encode())
    atomic_write(DOCUMENT, document(rows, versions()).encode())


def read(path: Path = TABLE) -> list[Row]:
    """The rows that were written last."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [_row(values) for values in table.to_dict(orient="records")]


def _row(values: Mapping[Any, str]) -> Row:
    cells: dict[str, Any] = dict(values)
    for column in fields(Row):
        if "None" in str(column.type):
            cells[column.name] = int(float(values[column.name])) if values[column.name] else None
    return Row(**{**cells, "reasons": values["reasons"].splitlines()})


def document(rows: Sequence[Row], made_with: Mapping[str, str]) -> str:
    """The page."""
    well = sum(not row.reasons for row in rows)
    made = ", ".join(f"{name} {number}" for name, number in made_with.items())
    meanings = "".join(
        f"- **{column.heading}**: {column.meaning}.\n" for column in COLUMNS if column.meaning
    )
    reasons = "".join(
        f"- **{row.architecture}**, {reason}\n" for row in rows for reason in row.reasons
    )
    return "\n".join(
        (
            INTRODUCTION.format(well=well, all=len(rows), versions=made),
            shown(rows),
            "## What the columns mean\n",
            meanings,
            "## What does not work, and why\n",
            reasons or "Everything that was tried works.\n",
        )
    )


def shown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    headings = [column.heading for column in COLUMNS]
    return markdown_table(
        headings, [[_text(column.value(row)) for column in COLUMNS] for row in rows]
    )


def _text(value: Any) -> str:
    """A cell: a figure with a decimal where it is a fraction.

    >>> _text(None), _text(17), _text(11.25), _text("yes")
    ('–', '17', '11.2', 'yes')
    """
    if value is None:
        return UNTRIED
    return f"{value:.1f}" if isinstance(value, float) else str(value)
