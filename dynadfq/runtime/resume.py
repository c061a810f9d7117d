"""Resumable state of long work: one folder outside the pipeline's outputs, written atomically,
deleted on success.

DVC deletes a stage's outputs when the stage starts, so half-finished work is kept in
``.scratch/<stage>-<fingerprint>`` instead. The fingerprint covers everything the result depends on;
work that was started with other parameters is never resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

HASHED_AT_ONCE = 1 << 20  # bytes


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that identify JSON-able values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, of which a piece at a time is in memory."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(HASHED_AT_ONCE):
            found.update(piece)
    return found.hexdigest()


def digest(folder: Path) -> str:
    """Return a fingerprint of the names and contents of a folder's files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint([(str(path.relative_to(folder)), file_sha256(path)) for path in files])


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        IsADirectoryError: there is a folder of this name.
        OSError: it cannot be written; the error names this file, and what was written of it is
            gone.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, not a file; choose another name, or move the folder away"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def put(source: Path, target: Path) -> None:
    """Give a finished file a second name, atomically: its bytes lie on the disk once where it can
    hold hard links.

    Elsewhere, as between two disks, the file is copied. Neither file may be written in place
    afterwards.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(
            missing_ok=True
        )  # replacing a name of the same file does nothing (rename(2))


class Scratch:
    """A folder for unfinished work. ``Scratch(None)`` keeps nothing, for callers who do not need to
    resume.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of_stage(cls, stage: str, *identity: Any) -> Scratch:
        """Return the scratch folder of a DVC stage, under the main repository also in queued
        experiments.
        """
        root = Path(os.environ.get("DVC_ROOT", "."))
        return cls(root / ".scratch" / f"{stage}-{fingerprint(*identity)}")

    def exists(self) -> bool:
        """Whether there is a saved state to go on from."""
        return self.folder is not None and self._state.exists()

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, or None when there is none."""
        if not self.exists():
            return None
        import torch  # here, because files are also hashed and moved by commands that need no torch

        state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state (tensors, numbers, strings, lists and dicts of them)."""
        if self.folder is None:
            return
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._state.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._state)

    def delete(self) -> None:
        """Remove the folder; called when the results are in place."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _state(self) -> Path:
        assert self.folder is not None
        return self.folder / "state.pt"
