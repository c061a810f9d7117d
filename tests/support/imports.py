"""The import graph of this repository, read from its source files without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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


class Import(NamedTuple):
    """One name that a file imports from this repository.

    file: where the name is defined or re-exported, relative to the repository.
    packages: the ``__init__.py`` files that Python runs before it.
    name: as the importing file calls it.
    function: the function around the import; empty at the top of the file.
    """

    file: str
    packages: tuple[str, ...]
    name: str
    function: str


@cache
def imports(path: str) -> tuple[Import, ...]:
    """Return everything that a file imports, ``TYPE_CHECKING`` blocks included."""
    return tuple(_imports(ast.parse((ROOT / path).read_text()), ""))


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
        if path in found or path.startswith(PLUMBING):
            continue
        found.add(path)
        in_method = images_only and path.startswith("dynadfq/methods/")
        skipped = _student_names(path) if in_method else set()
        for one in imports(path):
            if one.name not in skipped:
                waiting += [one.file, *one.packages]
    return {path for path in found if (ROOT / path).stat().st_size}


def room(path: str) -> str:
    """Return the entry under `deps` that a code file belongs to: its folder, such as
    ``dynadfq/losses``; for methods and files outside of such folders the file itself."""
    parts = path.split("/")
    in_room = len(parts) > 2 and parts[1] != "methods"
    return "/".join(parts[:2]) if in_room else path


def _imports(node: ast.AST, function: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield from _import(alias.name, alias.asname or alias.name, function)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                module = inner if _file(inner) else child.module
                yield from _import(module, alias.asname or alias.name, function)
        elif isinstance(child, ast.FunctionDef):
            yield from _imports(child, child.name)
        else:
            yield from _imports(child, function)


def _import(module: str, name: str, function: str) -> Iterator[Import]:
    parts = module.split(".")
    file = _file(module)
    if parts[0] in PACKAGES and file:
        above = [f"{'/'.join(parts[:length])}/__init__.py" for length in range(1, len(parts))]
        packages = tuple(path for path in above if (ROOT / path).exists())
        yield Import(file, packages, name, function)


def _file(module: str) -> str:
    """The file of a module or package, empty if there is none."""
    place = module.replace(".", "/")
    files = (f"{place}.py", f"{place}/__init__.py")
    return next((file for file in files if (ROOT / file).exists()), "")


@cache
def _student_names(path: str) -> set[str]:
    """Names of a method file that only its student classes use, directly or through functions."""
    tree = ast.parse((ROOT / path).read_text())
    uses = {_defined(node): _names(node) for node in tree.body if _defined(node)}
    used = set().union(*uses.values())
    waiting = [name for name in uses if name not in used and not _is_student(name)]
    waiting += [name for node in tree.body if not _defined(node) for name in _names(node)]
    kept: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in kept and not _is_student(name):
            kept.add(name)
            waiting += uses.get(name, ())
    return used - kept


def _is_student(name: str) -> bool:
    return name.endswith("Student")


def _defined(node: ast.stmt) -> str:
    """The name of a class or function that a statement defines, empty for other statements."""
    return node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
