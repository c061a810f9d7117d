"""The measured cells as a CSV file: a row is appended as soon as a cell is done."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, get_type_hints

from benchmarks.time_to_accuracy.split import Split
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import atomic_write


@dataclass(frozen=True)
class Cell:
    """What a row measures: a method under a budget of CPU time, one split of it, one seed.

    precision: of the synthesis.
    weights: of the float network, the first twelve digits of their sha256.
    """

    method: str
    minutes: float
    share: float
    images: int
    basis: str
    learning_rate: float
    max_gradient_norm: float
    crop_scale: float
    rounding: str
    allocation: str
    seed: int
    precision: str
    weights: str

    @property
    def split(self) -> Split:
        """How the budget is divided."""
        return Split(**{field.name: getattr(self, field.name) for field in fields(Split)})


@dataclass(frozen=True)
class Row(Cell):
    """A cell and what was measured.

    iterations: of optimization per image, or of a generator's first training.
    steps: of fine-tuning.
    image_seconds, student_seconds: CPU time.
    wall_seconds: of both together.
    held_back: agreement with the teacher on synthetic images that nothing learned from, percent.
    top1, agreement: with labels and with the teacher, on the test images, percent.
    test_images: their number.
    library: state of the library's code, see ``library_digest``.
    """

    iterations: int
    steps: int
    image_seconds: float
    student_seconds: float
    wall_seconds: float
    held_back: float
    top1: float
    agreement: float
    test_images: int
    library: str

    @property
    def cell(self) -> Cell:
        """What the row measures."""
        return Cell(**{field.name: getattr(self, field.name) for field in fields(Cell)})


COLUMNS = [field.name for field in fields(Row)]


def read(path: Path) -> list[Row]:
    """Return all rows of a file; none if it does not exist.

    Raises:
        InvalidArgument: the columns are not those of a row.
    """
    if not path.exists():
        return []
    types: dict[str, Any] = get_type_hints(Row)
    reader = csv.DictReader(path.read_text().splitlines())
    if reader.fieldnames is not None and set(reader.fieldnames) != set(types):
        differ = ", ".join(sorted(set(reader.fieldnames) ^ set(types)))
        raise InvalidArgument(
            "--output",
            f"{path} was written by another version, its columns differ in {differ}; "
            "give another folder",
        )
    rows = list(reader)
    if any(None in row.values() for row in rows):
        raise InvalidArgument("--output", f"a row of {path} was cut off; remove it")
    return [Row(**{name: types[name](value) for name, value in row.items()}) for row in rows]


def union(first: Iterable[Row], second: Iterable[Row]) -> list[Row]:
    """Return a row for each cell of either; the first one's, where both have the cell."""
    found: dict[Cell, Row] = {}
    for row in chain(first, second):
        found.setdefault(row.cell, row)
    return list(found.values())


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file by these rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    atomic_write(path, text.getvalue().encode())


def append(path: Path, row: Row) -> None:
    """Add a row."""
    write(path, [*read(path), row])


def chosen(rows: Sequence[Row], method: str, minutes: float) -> Split | None:
    """Return the split of seed 0 with the highest held-back agreement; None without a row.

    Of equal ones, the one that was measured first.
    """
    tried = [r for r in rows if (r.method, r.minutes, r.seed) == (method, minutes, 0)]
    return max(tried, key=lambda row: row.held_back).cell.split if tried else None


def of_chosen(rows: Sequence[Row], method: str, minutes: float) -> list[Row]:
    """Return the rows of all seeds with the chosen split."""
    split = chosen(rows, method, minutes)
    return [r for r in rows if (r.method, r.minutes, r.cell.split) == (method, minutes, split)]
