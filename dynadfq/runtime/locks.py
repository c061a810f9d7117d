"""Locks between processes: files that only one of them holds, and that do not outlive its use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL = 0.2  # seconds between two attempts


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file for the block, and delete it afterwards.

    The operating system frees the lock when its holder dies, however that happens.

    Args:
        path: the lock file; its folder is made if necessary.
        waiting: printed once, to stderr, if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire(poll_interval=POLL)
    with _deleted(path, lock):
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock file for the block, unless another process holds it; yield whether it is held."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    with _deleted(path, lock):
        yield True


@contextmanager
def _deleted(path: Path, lock: FileLock) -> Iterator[None]:
    """Delete a held lock file after the block, and release the lock.

    filelock never takes a file that was deleted before it was locked.
    """
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
