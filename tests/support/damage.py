"""What happens to files: each entry damages the one at a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped": lambda path: path.write_bytes(b"!" + path.read_bytes()[1:]),
    "emptied": lambda path: path.write_bytes(b""),
    "replaced": lambda path: path.write_bytes(b"x" * 1000),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "file").touch()),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path)),
}
