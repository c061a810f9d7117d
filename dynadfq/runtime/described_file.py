"""Files that a record describes: written beside it, and read only if they are what it says.

A record and its file can be read at every moment while they are replaced: the new file is first
written under a pending name, which holds its checksum; then the record is replaced; then the file
gets its own name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dynadfq.runtime.artifact import DamagedArtifact, read_bytes
from dynadfq.runtime.resume import atomic_write


def pending(path: Path, checksum: str) -> Path:
    """Return the name of a new file until the record that describes it is in place."""
    return path.with_name(f".{path.name}.{checksum[:16]}")


def current(path: Path, checksum: str) -> Path:
    """Return the name under which the file that a record describes lies."""
    waiting = pending(path, checksum)
    return waiting if waiting.is_file() else path


def settle(path: Path, checksum: str) -> None:
    """Give a file its own name, if it still has the pending one."""
    waiting = pending(path, checksum)
    if waiting.exists():
        os.replace(waiting, path)
        waiting.unlink(missing_ok=True)  # a hard link to `path` is not renamed (rename(2))


def write_described(folder: Path, record: str, facts: bytes, file: str, data: bytes) -> None:
    """Replace a record and the file that it describes.

    Args:
        folder: where both lie.
        record, facts: name and content of the record.
        file, data: name and content of the other file.

    Raises:
        OSError: a file cannot be written; what was there before can still be read.
    """
    checksum = sha256(data).hexdigest()
    atomic_write(pending(folder / file, checksum), data)
    atomic_write(folder / record, facts)
    settle(folder / file, checksum)


def read_described(path: Path, checksum: str, size: int, record: str, stage: str) -> bytes:
    """Return the content of the file that a record describes.

    Args:
        path: the file.
        checksum, size: its sha256 and bytes, from the record.
        record: the record's name.
        stage: that writes both.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedArtifact: it is another one.
    """
    data = read_bytes(current(path, checksum), size, stage)
    if len(data) != size or sha256(data).hexdigest() != checksum:
        problem = f"is not the file that {record} describes (sha256 differs)"
        raise DamagedArtifact(path, problem, stage)
    return data


def to_tensors(data: bytes, path: Path, stage: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file's content.

    Raises:
        DamagedArtifact: it is no such content, or a number is NaN or infinite.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedArtifact(path, f"is damaged ({error})", stage) from error
    if wrong := not_finite(tensors):
        raise DamagedArtifact(path, f"holds NaN or infinity in {wrong}", stage)
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor with NaN or infinity; None if all numbers are finite."""
    found = (name for name, tensor in tensors.items() if not tensor.isfinite().all())
    return next(found, None)


@contextmanager
def reading(path: Path, stage: str) -> Iterator[None]:
    """Turn an error about what a file holds into one about the file.

    Raises:
        DamagedArtifact: in place of an error about a value, a network, or memory.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        problem = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedArtifact(path, f"is wrong: {problem}", stage) from error
