"""Where the pipeline's files lie, and tables written so that the same content has the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dynadfq.checkpoint import atomic_write

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
