"""State of unfinished work that a later run continues, atomic writes, and checksums of files.

DVC deletes a stage's outputs when the stage starts, so unfinished work is kept in
``.scratch/<stage>-<fingerprint>`` and deleted on success. The fingerprint covers everything that
the result depends on: work that was started with other parameters is never continued.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HASHED_AT_ONCE = 1 << 20  # bytes


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that identify JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, which is read in chunks."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(HASHED_AT_ONCE):
            found.update(chunk)
    return found.hexdigest()


def digest(folder: Path) -> str:
    """Return a fingerprint of the names and contents of a folder's files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint([(str(path.relative_to(folder)), file_sha256(path)) for path in files])


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file replaces ``path`` after the block, or is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        # It still exists if it is a hard link to `path`, where replacing does nothing (rename(2)).
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that readers see either the old content or the new.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: it cannot be written; the error names this file, and no part of it is left.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, not a file; choose another name, or move the folder away"
        )
    try:
        with _replaced(path) as temporary, open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def put(source: Path, target: Path) -> None:
    """Give a finished file a second name, atomically, as a hard link where that is possible.

    Elsewhere, as between two disks, the file is copied. Neither file may be modified in place
    afterwards.
    """
    with _replaced(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, temporary)


class Scratch:
    """A folder for the state of unfinished work.

    Args:
        folder: None keeps nothing, for callers who do not need to resume.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of_stage(cls, stage: str, *identity: Any) -> Scratch:
        """Return a stage's scratch folder, of the main repository also in queued experiments."""
        root = Path(os.environ.get("DVC_ROOT", "."))
        return cls(root / ".scratch" / f"{stage}-{fingerprint(*identity)}")

    def part(self, name: str) -> Scratch:
        """Return the folder for a part of the work; it is deleted with the whole."""
        return Scratch(None if self.folder is None else self.folder / name)

    def exists(self) -> bool:
        """Return whether a state was saved."""
        return self.folder is not None and self._state.exists()

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, or None where there is none."""
        if not self.exists():
            return None
        import torch  # here, because commands and stages without torch write files as well

        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state: tensors, numbers, strings, and lists and dicts of them."""
        if self.folder is None:
            return
        import torch

        with _replaced(self._state) as temporary:
            torch.save(state, temporary)

    def delete(self) -> None:
        """Delete the folder, once the results are in place."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _state(self) -> Path:
        assert self.folder is not None
        return self.folder / "state.pt"
