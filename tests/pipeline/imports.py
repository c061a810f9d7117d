"""Which files of this repository a stage imports, directly or not, found without running anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("dynadfq", "stages")
# What cannot change a result is left out. Reading parameters affects a stage through their values alone, and those are declared under
# `params:`; the packages' own files name things and compute nothing. Of the methods, a stage depends on the one in use
# (`dynadfq/methods/${method.name}.py`), so that adding a method re-runs nothing.
PLUMBING = ("dynadfq/__init__.py", "dynadfq/params/", "dynadfq/schema.py", "dynadfq/methods/__init__.py", "stages/__init__.py")


def closure(root: Path, entry: Path) -> set[str]:
    """Paths, relative to ``root``, of all that ``entry`` imports, itself included; plumbing is neither listed nor followed."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in found and not name.startswith(PLUMBING):
            found.add(name)
            waiting += _imported(root, path)
    return {name for name in found if (root / name).stat().st_size}


def _imported(root: Path, path: Path) -> Iterator[Path]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(_without_typing(tree)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from _files(root, name)


def _files(root: Path, module: str) -> Iterator[Path]:
    """The module's file, and the ``__init__.py`` of every package on the way to it."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return
    for length in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:length])
        yield from (file for file in (place / "__init__.py", place.with_suffix(".py")) if file.exists())


def _without_typing(tree: ast.Module) -> ast.Module:
    """Leave out what stands under ``if TYPE_CHECKING:``."""
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return tree
