"""IMAGES: files, folders, patterns, or paths on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_paths(arguments: Iterable[str], lines: Iterable[str] | None = None) -> Iterator[Path]:
    """Files that the arguments stand for: a folder's images in order, a pattern's matches; ``-``
    reads ``lines``.

    Raises:
        ValueError: a folder holds no image, a pattern matches no file, or no path is read.
    """
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            given = sys.stdin if lines is None else lines
            yield from _listed(given)
        elif path.is_dir():
            yield from _folder(path)
        elif any(sign in argument for sign in "*?[") and not path.exists():
            matches = [
                match
                for match in map(Path, sorted(glob(argument, recursive=True)))
                if match.is_file()
            ]
            if not matches:
                raise ValueError(f"IMAGES: no file matches {argument!r}")
            yield from matches
        else:
            yield path


def _listed(lines: Iterable[str]) -> Iterator[Path]:
    paths = (Path(line.rstrip("\r\n")) for line in lines if line.strip())
    first = next(paths, None)
    if first is None:
        raise ValueError("IMAGES: no path on standard input; give one a line")
    yield first
    yield from paths


def _folder(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        raise ValueError(f"IMAGES: {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return found
