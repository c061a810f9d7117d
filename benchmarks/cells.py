"""The cells of ``benchmarks/cells.yaml``: what each reads and writes, and which others it needs.

``benchmarks/dvc.yaml`` says the same to DVC; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CELLS = Path("benchmarks/cells.yaml")
GENERATED = "generated.safetensors"  # in a student's folder: what its generator makes
ARTIFACTS = Path("benchmarks/artifacts")
NO_GRID = f"{CELLS} holds no grid; python -m benchmarks.grid write digits writes one"

KINDS = (
    "teacher",
    "similarity",
    "images",
    "labelled",
    "student",
    "evaluate",
    "controls",
    "statistics",
)
GROUPS = {
    "teacher": "teachers",
    "similarity": "similarities",
    "images": "images",
    "labelled": "labelled",
    "student": "students",
    "evaluate": "students",
    "controls": "controls",
    "statistics": "statistics",
}


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    entry: what it may know of ``cells.yaml``.
    inputs: files and folders that it reads.
    outputs: files and folders that it writes; the first is the result, a second says what it cost.
    """

    kind: str
    key: str
    entry: Mapping[str, Any]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name of its stage in DVC."""
        return f"{self.kind}@{self.key}"


def read_cells(path: Path = CELLS) -> dict[str, Any]:
    """Return the expanded active grid.

    The file is generated, so it is read without the checks of user files, which import torch.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; python -m benchmarks.grid write digits makes one"
        )
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), FastLoader)
    return content


def all_cells(content: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield every cell of a grid, inputs before the cells that read them."""
    for kind in KINDS:
        for key in content[GROUPS[kind]]:
            yield cell(content, kind, key)


def cell(content: Mapping[str, Any], kind: str, key: str) -> Cell:
    """Return one cell.

    Raises:
        KeyError: the grid has none of this kind and key.
    """
    entry = content[GROUPS[kind]][key]
    if kind == "teacher":
        return Cell(kind, key, entry, (Path(entry["weights"]),), (_teacher(key),))
    if kind == "similarity":
        return Cell(kind, key, entry, (_teacher(key),), (_similarity(key),))
    teacher = _teacher(entry["teacher"])
    if kind in ("images", "labelled"):
        inputs = (teacher, _similarity(entry["teacher"]))
        return Cell(kind, key, entry, inputs, (_images(key), cost_of("images", key)))
    if kind == "student":
        inputs = (teacher, _images(entry["images"]))
        return Cell(kind, key, entry, inputs, (_student(key), cost_of("students", key)))
    if kind in ("evaluate", "controls"):
        output = evaluation_of(key) if kind == "evaluate" else controls_of(key)
        return Cell(kind, key, content["evaluation"], (teacher, _student(key)), (output,))
    return Cell(kind, key, entry, (teacher, Path(entry["source"])), (statistics_of(key),))


def evaluation_of(student: str) -> Path:
    """Return the path of a student's evaluation."""
    return ARTIFACTS / "evaluations" / f"{student}.json"


def controls_of(student: str) -> Path:
    """Return the path of what a dynamic student answers with other widths."""
    return ARTIFACTS / "evaluations" / "controls" / f"{student}.json"


def cost_of(group: str, key: str) -> Path:
    """Return the path of the recorded cost of images or of a student."""
    return ARTIFACTS / "costs" / group / f"{key}.json"


def statistics_of(key: str) -> Path:
    """Return the folder of what was measured on a set of images."""
    return ARTIFACTS / "evaluations" / "statistics" / key


def _teacher(key: str) -> Path:
    return ARTIFACTS / "teachers" / key


def _similarity(key: str) -> Path:
    return ARTIFACTS / "similarities" / key


def _images(key: str) -> Path:
    return ARTIFACTS / "images" / key


def _student(key: str) -> Path:
    return ARTIFACTS / "students" / key
