"""The argument IMAGES: files, folders, patterns, or paths on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_paths(arguments: Iterable[str]) -> Iterator[Path]:
    """Yield the image files that arguments name.

    Args:
        arguments: a file is yielded as it is, a folder's images and a pattern's matches in order
            of their names; ``-`` reads one path per line from standard input.

    Raises:
        ValueError: a folder holds no image, a pattern matches no file, or no path is read.
    """
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            yield from _listed(sys.stdin)
        elif path.is_dir():
            yield from _in_folder(path)
        elif is_pattern(argument) and not path.exists():
            yield from _matches(argument)
        else:
            yield path


def is_pattern(text: str) -> bool:
    """Return whether a path has wildcards."""
    return any(sign in text for sign in "*?[")


def _listed(lines: Iterable[str]) -> Iterator[Path]:
    empty = True
    for line in lines:
        if line.strip():
            empty = False
            yield Path(line.rstrip("\r\n"))
    if empty:
        raise ValueError("IMAGES: no path on standard input; give one per line")


def _in_folder(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    found = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"IMAGES: {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def _matches(pattern: str) -> list[Path]:
    found = [Path(name) for name in sorted(glob(pattern, recursive=True)) if Path(name).is_file()]
    if not found:
        raise ValueError(f"IMAGES: no file matches {pattern!r}")
    return found
