"""The files that say what is in a data set, and which DVC does not follow."""

from __future__ import annotations

from pathlib import Path

from dynadfq.data.class_file import require_file
from dynadfq.data.config import IMAGE_FOLDER
from dynadfq.runtime.resume import file_sha256, fingerprint, listing
from dynadfq.runtime.untracked import Untracked


def untracked(name: str | None, root: Path, class_file: Path | None) -> Untracked | None:
    """Return an image folder's files, of which names and sizes count, and the class file.

    None where there are neither: other data sets do not change.

    Args:
        name: of the data set; without one, nothing is read.
        root: its folder.
        class_file: which class each of its classes is.

    Raises:
        FileNotFoundError: there is no such folder, or no such class file.
    """
    if name is None:
        return None
    files = listing(root) if name == IMAGE_FOLDER else None
    if class_file is None:
        return None if files is None else Untracked(f"the files in {root}", files)
    require_file(class_file)
    labels = f"the lines of the class file {class_file}"
    what = labels if files is None else f"the files in {root} and {labels}"
    return Untracked(what, fingerprint(files, file_sha256(class_file)))
