"""Files that the parameters name and that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dynadfq.data.config import IMAGE_FOLDER
from dynadfq.params.rules import lookup
from dynadfq.params.sections import Params

FILES = ("teacher.checkpoint", "data.classes", "method.images.classes")
# Folders of class folders; the files of other data sets are downloaded.
FOLDERS = {"data.root": "data.name", "method.images.root": "method.images.data"}


def missing_files(params: Params, root: Path) -> Iterator[str]:
    """Yield a line for each named file or folder that does not exist.

    Args:
        params: the parameters.
        root: the folder in which relative paths start.
    """
    for key in FILES:
        path = lookup(params, key, None)
        if path is not None and not (root / path).is_file():
            yield f"{key}: there is no file {root / path}; write the path of one that exists"
    for key, name in FOLDERS.items():
        if lookup(params, name, None) == IMAGE_FOLDER:
            path = lookup(params, key)
            if not (root / path).is_dir():
                yield f"{key}: there is no folder {root / path}; write the path of one that exists"
