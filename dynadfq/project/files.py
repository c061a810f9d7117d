"""The files of the pipeline that the wheel ships and a new project gets.

``setup.py`` runs this module before the package is installed, so that it imports the standard
library only.
"""

from __future__ import annotations

import shutil
from pathlib import Path

FILES = (
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "checkpoints/README.md",
    "configs/*.yaml",
    "stages/*.py",
)
TEMPLATE = Path("dynadfq", "project", "template")  # in a wheel


def listed(root: Path) -> list[Path]:
    """Return the files of the pipeline, relative to the folder that holds them."""
    return [path.relative_to(root) for pattern in FILES for path in sorted(root.glob(pattern))]


def copy(root: Path, folder: Path) -> None:
    """Copy the files of the pipeline from one folder to another."""
    for path in listed(root):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
