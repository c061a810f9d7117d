"""Work that is killed at some step and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynadfq.runtime.progress import Progress


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of a folder's files, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextmanager
def killed_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    """Interrupt the block at the given step of its progress bar."""
    original = Progress.step
    left = iter(range(steps))

    def step(self: Progress, **losses: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(self, **losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        yield


@contextmanager
def counted_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Yield a list with the number of each step that the block takes."""
    original = Progress.step
    done: list[int] = []

    def step(self: Progress, **losses: float) -> None:
        done.append(len(done))
        original(self, **losses)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", step)
        yield done
