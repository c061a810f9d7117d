"""The import graph of this repository, read from its source files without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("dynadfq", "stages", "benchmarks")
# Files that cannot change a result. Parameters affect a stage through their values, which stand
# under `params:`; a package's own file lists names; the launcher starts processes.
PLUMBING = (
    "dynadfq/__init__.py",
    "dynadfq/params/",
    "dynadfq/runtime/config.py",
    "dynadfq/methods/__init__.py",
    "stages/__init__.py",
    "stages/launch.py",
    "benchmarks/__init__.py",
)


def closure(entry: str, images_only: bool = False) -> set[str]:
    """Return all files that a file imports, directly or not, itself included.

    Plumbing and empty files are neither listed nor followed.

    Args:
        entry: path relative to the repository.
        images_only: leave out what method files import for their students alone.
    """
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path not in found and not path.startswith(PLUMBING):
            found.add(path)
            waiting += imported_files(path, images_only)
    return {path for path in found if (ROOT / path).stat().st_size}


@cache
def imported_files(path: str, images_only: bool = False) -> tuple[str, ...]:
    """Return the files that one file imports, at its top or anywhere inside."""
    tree = ast.parse((ROOT / path).read_text())
    images_only = images_only and path.startswith("dynadfq/methods/")
    skipped = _student_names(tree) if images_only else set()
    return tuple(file for node in ast.walk(tree) for file in _targets(node, skipped))


def room(path: str) -> str:
    """Return the entry under `deps` that a code file belongs to: its folder, such as
    ``dynadfq/losses``; for methods and files outside of such folders the file itself."""
    parts = path.split("/")
    in_room = len(parts) > 2 and parts[1] != "methods"
    return "/".join(parts[:2]) if in_room else path


def _targets(node: ast.AST, skipped: set[str]) -> Iterator[str]:
    """The files that an import statement loads, unless every name it binds is skipped."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return
    for alias in node.names:
        if (alias.asname or alias.name) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from _files(alias.name)
        elif node.module:
            yield from _files(node.module)
            yield from _files(f"{node.module}.{alias.name}")


def _files(module: str) -> Iterator[str]:
    """The module's file, and the ``__init__.py`` of every package on the way to it."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return
    for length in range(1, len(parts) + 1):
        place = "/".join(parts[:length])
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if (ROOT / file).exists():
                yield file


def _student_names(tree: ast.Module) -> set[str]:
    """Names of a method file that only its student classes use, directly or through functions."""
    uses = {_defined(node): _names(node) for node in tree.body if _defined(node)}
    used_by_others = set().union(*uses.values())
    waiting = [name for name in uses if name not in used_by_others and not _is_student(name)]
    waiting += [name for node in tree.body if not _defined(node) for name in _names(node)]
    kept: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in kept and not _is_student(name):
            kept.add(name)
            waiting += uses.get(name, ())
    return used_by_others - kept


def _is_student(name: str) -> bool:
    return name.endswith("Student")


def _defined(node: ast.stmt) -> str:
    """The name of a class or function that a statement defines, empty for other statements."""
    return node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
