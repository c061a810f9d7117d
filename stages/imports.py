"""The import closure of a module, found without running anything: DVC does not follow imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("dynadfq", "stages")
# What cannot change a result is left out. Reading parameters affects a stage through their values
# alone, and those are declared under `params:`; a package's own file names things and computes
# nothing; how a stage is started neither.
PLUMBING = (
    "dynadfq/__init__.py",
    "dynadfq/params/",
    "dynadfq/runtime/config.py",
    "dynadfq/methods/__init__.py",
    "stages/__init__.py",
    "stages/launch.py",
)


def closure(entry: Path, leave_out: str | None = None) -> set[str]:
    """All that ``entry`` imports, itself included; plumbing is neither listed nor followed, nor are
    empty files.

    What classes named ``leave_out`` import inside themselves does not count.
    """
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name not in found and not name.startswith(PLUMBING):
            found.add(name)
            waiting += _imported(path, leave_out)
    return {name for name in found if (ROOT / name).stat().st_size}


@cache
def _imported(path: Path, leave_out: str | None) -> tuple[Path, ...]:
    """The files that a module imports, at its top or anywhere inside."""
    return tuple(_walked(path, leave_out))


def _walked(path: Path, leave_out: str | None) -> Iterator[Path]:
    tree = ast.parse(path.read_text())
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ClassDef) and node.name == leave_out)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from _files(name)


def _files(module: str) -> Iterator[Path]:
    """The module's file, and the ``__init__.py`` of every package on the way to it."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return
    for length in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:length])
        yield from (
            file for file in (place / "__init__.py", place.with_suffix(".py")) if file.exists()
        )
