"""Paths of the pipeline's files, and writers that give the same bytes for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dynadfq.runtime.resume import atomic_write

ARTIFACTS = Path("artifacts")
TEACHER = ARTIFACTS / "teacher"
SIMILARITY = ARTIFACTS / "similarity"
SYNTHETIC = ARTIFACTS / "synthetic"
STUDENT = ARTIFACTS / "student"
FIXED = ARTIFACTS / "fixed"
EVALUATION = ARTIFACTS / "evaluation"
EXPORT = ARTIFACTS / "export"


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file with nine significant digits."""
    atomic_write(path, table.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with sorted keys."""
    atomic_write(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as <name>.csv."""
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
