"""Which folder of dynadfq may import which: docs/architecture.md says it, the code keeps to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from graphlib import TopologicalSorter

import imports
import pytest
from imports import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("dynadfq", "stages")
    for path in (ROOT / package).rglob("*.py")
)
# Elsewhere, a function imports optional and slow packages only, which no file imports at its top.
LATE_IMPORTS = {
    "dynadfq/cli/": "`--help` and a wrong argument are answered without loading torch",
    "dynadfq/methods/": "settings are checked without loading torch",
    "dynadfq/runtime/resume.py": "a killed parent is noticed before torch has loaded",
    "dynadfq/quant/knapsack.py": "scipy.optimize takes a quarter second, and few runs need it",
    "dynadfq/data/": "torchvision takes a second, which the digits do not need",
    "dynadfq/zoo/families/imagenet.py": "torchvision takes a second, which other zoos do not need",
    "stages/launch.py": "a stage of one process does not need torchrun, which takes a second",
}


def table() -> dict[str, set[str]]:
    """The rooms of the page in their order, and what each may import."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, flags=re.MULTILINE)
    return {room: set(re.findall(r"\w+", allowed)) for room, allowed in rows}


def picture() -> dict[str, set[str]]:
    """The arrows of the page's picture, by the room at which they start."""
    arrows: dict[str, set[str]] = {}
    page = PAGE.replace("graph_", "graph")  # "graph" is a keyword of Mermaid
    for line in re.findall(r"^    (\w+) --> (.*)$", page, flags=re.MULTILINE):
        arrows.setdefault(line[0], set()).update(re.findall(r"\w+", line[1]))
    return arrows


def room_of(path: str) -> str:
    """The folder of dynadfq that a file lies in; stages, or the name of a file at the top."""
    first, *rest = path.removesuffix(".py").split("/")
    return first if first == "stages" or rest == ["__init__"] else rest[0]


def imported_rooms() -> dict[str, set[str]]:
    """What each room imports, ``TYPE_CHECKING`` blocks and functions included."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        above = found.setdefault(room_of(path), set())
        above |= {room_of(one.file) for one in imports.imports(path)}
    return {room: others - {room, "dynadfq"} for room, others in found.items()}


def reached(graph: dict[str, set[str]], room: str) -> set[str]:
    """Every room that can be reached from one by arrows."""
    direct = graph.get(room, set())
    return direct.union(*(reached(graph, other) for other in direct))


def test_the_page_names_every_room():
    assert set(table()) | {"dynadfq"} == set(imported_rooms())


@pytest.mark.parametrize("room", table())
def test_a_room_imports_exactly_what_the_page_allows(room):
    assert imported_rooms()[room] == table()[room]


def test_a_room_stands_below_those_that_it_imports():
    names = list(table())
    for number, room in enumerate(names):
        assert table()[room] <= set(names[:number]), room


def test_images_know_no_quantizer():
    for room in ("synthesis", "losses", "teacher"):
        assert not reached(table(), room) & {"quant", "ptq", "training", "export"}


def test_the_picture_has_the_arrows_of_the_table():
    for room in table():
        assert reached(picture(), room) == reached(table(), room), room


def test_no_module_imports_itself_through_others():
    graph = {path: {one.file for one in imports.imports(path)} for path in FILES}
    assert list(TopologicalSorter(graph).static_order())


def packages(statements: Iterable[ast.AST]) -> set[str]:
    """The packages that some statements import."""
    names = [one.module or "" for one in statements if isinstance(one, ast.ImportFrom)]
    for one in statements:
        names += [alias.name for alias in one.names] if isinstance(one, ast.Import) else []
    return {name.split(".")[0] for name in names}


def packages_of(path: str) -> tuple[set[str], set[str]]:
    """The packages that a file imports at its top, and inside functions."""
    tree = ast.parse((ROOT / path).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return packages(tree.body), packages([one for f in functions for one in ast.walk(f)])


def test_imports_stand_at_the_top():
    found = {path: packages_of(path) for path in FILES}
    everywhere = set().union(*(top for top, _ in found.values()))
    late = {path for path, (_, inside) in found.items() if inside & everywhere}
    allowed = {path: [place for place in LATE_IMPORTS if path.startswith(place)] for path in late}
    assert [path for path, places in allowed.items() if not places] == []
    used = {place for places in allowed.values() for place in places}
    assert set(LATE_IMPORTS) == used, "an exception that nothing needs"
