"""State of unfinished work that a later run continues, atomic writes, and checksums of files.

DVC deletes a stage's outputs when the stage starts, so unfinished work is kept in
``.scratch/<stage>-<fingerprint>`` and deleted on success. The fingerprint covers everything that
the result depends on: work that was started with other parameters is never continued. Two processes
with the same fingerprint take turns.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dynadfq.runtime.locks import locked, locked_if_free

HASHED_AT_ONCE = 1 << 20  # bytes
SEAL = 65  # bytes: a line feed, and in hexadecimal digits the sha256 of what stands before it
STATE = "state.pt"


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
    """Return a fingerprint of the names and contents of a folder's files, without byte code."""
    found = (path for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if path.parent.name != "__pycache__")
    return fingerprint([(str(path.relative_to(folder)), file_sha256(path)) for path in files])


def library_digest() -> str:
    """Return a fingerprint of this library's files."""
    return digest(Path(__file__).parents[1])


def listing(folder: Path) -> str:
    """Return a fingerprint of the names and sizes of a folder's files, whose content is not read.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"root: {folder} is no folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint([(str(path.relative_to(folder)), path.stat().st_size) for path in files])


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


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in a folder; no other process may be writing to it."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink()


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that readers see either the old content or the new.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        FileExistsError: it is a device, a pipe or a socket.
        OSError: it cannot be written; the error names this file, and no part of it is left.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, not a file; choose another name, or move the folder away"
        )
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a device or the like, not a file; choose another name")
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


def write_sealed(path: Path, content: io.BytesIO) -> None:
    """Write a file atomically, followed by its checksum, which is appended to ``content``."""
    with content.getbuffer() as data:
        seal = _seal(data)
    content.seek(0, io.SEEK_END)
    content.write(seal)
    with content.getbuffer() as data:
        atomic_write(path, data)


def read_sealed(path: Path) -> bytes | None:
    """Return what ``write_sealed`` wrote, or None without a file.

    A file that was damaged since is set aside, so that its work begins anew.
    """
    if path.is_file():
        content = path.read_bytes()
        data, seal = content[:-SEAL], content[-SEAL:]
        if seal == _seal(data):
            return data
    set_aside(path)
    return None


def _seal(data: bytes | memoryview) -> bytes:
    return f"\n{hashlib.sha256(data).hexdigest()}".encode()


def set_aside(path: Path) -> None:
    """Rename a file of unfinished work that cannot be read, and say so; none is no error."""
    if not os.path.lexists(path):
        return
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)
    os.replace(path, aside)
    print(
        f"{path} is damaged: it was renamed to {aside.name}, and its part of the work begins anew",
        file=sys.stderr,
        flush=True,
    )


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

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for the block: no other process continues or deletes this work.

        A process that wants the same work waits until this one has finished or died, and then finds
        what it left (see ``delete``).
        """
        if self.folder is None:
            yield
            return
        waiting = f"another process does the work of {self.folder}; waiting for it"
        with ExitStack() as held:
            # One process at a time waits for the lock, and it holds the queue meanwhile.
            with locked(self._queue, waiting):
                held.enter_context(locked(self.folder.with_suffix(".lock"), waiting))
            yield

    def exists(self) -> bool:
        """Return whether a state was saved and is undamaged."""
        return self._content() is not None

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state; None where there is none, or where it was damaged."""
        content = self._content()
        if content is None:
            return None
        import torch  # here, because commands and stages without torch write files as well

        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state: tensors, numbers, strings, and lists and dicts of them."""
        if self.folder is None:
            return
        import torch

        content = io.BytesIO()
        torch.save(state, content)
        write_sealed(self.folder / STATE, content)

    def delete(self) -> None:
        """Delete the folder, once the results are in place; a process that waits for it gets it."""
        if self.folder is None or not self.folder.exists():
            return
        with locked_if_free(self._queue) as nobody_waits:
            if nobody_waits:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _content(self) -> bytes | None:
        return None if self.folder is None else read_sealed(self.folder / STATE)

    @property
    def _queue(self) -> Path:
        assert self.folder is not None
        return self.folder.with_suffix(".queue")
