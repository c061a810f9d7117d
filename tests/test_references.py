"""Files and names that pages, docstrings and comments mention exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs/compatibility.md"  # has names of modules inside networks
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    path
    for folder in ("dynadfq", "stages", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TEXTS = [path for path in (*PAGES, *CODE) if path != GENERATED]
EXAMPLES = {"tests/path.py", "dynadfq.json"}  # the second is a file within an exported program
FOLDERS = "dynadfq|stages|benchmarks|tests|docs|configs"


def exists(path: str) -> bool:
    """Whether a file or folder begins like this: decisions are cited by their number alone."""
    return any(ROOT.glob(f"{path.rstrip('./')}*"))


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_mentioned_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    files = set(re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]+)", text)) - EXAMPLES
    outputs = re.compile(r"/(artifacts|reports)(/|$)|[A-Z]{3}|benchmarks/dvc\.lock")
    assert [one for one in sorted(files) if not outputs.search(one) and not exists(one)] == []
    names = set(re.findall(r"(?<![\w./-])((?:dynadfq|stages|benchmarks)(?:\.\w+)+)", text))
    names = {one for one in names - EXAMPLES if not re.search(r"\.(py|md|yaml|[A-Z]{3,})$", one)}
    assert [one for one in sorted(names) if not resolves(one)] == []
