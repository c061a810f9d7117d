"""The code that each stage of ``dvc.yaml`` depends on: its import closure, found without running
anything.

DVC does not follow imports. ``make deps`` writes the closures into ``dvc.yaml``; a test holds them
there."""

from __future__ import annotations

import re
from pathlib import Path

from stages.imports import ROOT, closure

MODULES = {"finetune_fixed": "finetune"}
# Of the methods, these stages depend on the one in use, so that adding a method re-runs nothing.
USES_METHOD = ("synthesize", "finetune", "finetune_fixed")
METHOD_IN_USE = "dynadfq/methods/${method.name}.py"
PAGE = ("page.html.j2", "exports.html.j2", "style.css")
DATA_FILES = {"plot": [f"dynadfq/report/{name}" for name in PAGE]}


def code_dependencies(stage: str) -> list[str]:
    """Paths relative to the repository, sorted, as they belong under the stage's ``deps``."""
    leave_out = (
        None if stage.startswith("finetune") else "Student"
    )  # a method's, which only fine-tuning asks
    found = closure(ROOT / "stages" / f"{MODULES.get(stage, stage)}.py", leave_out)
    if stage in USES_METHOD:
        for method in methods():
            found |= closure(method, leave_out) - {method.relative_to(ROOT).as_posix()}
        found.add(METHOD_IN_USE)
    return sorted([*found, *DATA_FILES.get(stage, [])])


def methods() -> list[Path]:
    """The methods' files; real_data's own imports, a labelled data set among them, do not become
    the others'."""
    folder = ROOT / "dynadfq" / "methods"
    return [
        path
        for path in sorted(folder.glob("*.py"))
        if path.name not in ("__init__.py", "base.py", "real_data.py")
    ]


def rewritten(text: str) -> str:
    """``dvc.yaml`` with every stage's code dependencies as they should be."""

    def block(match: re.Match[str]) -> str:
        stage = match[1]
        listed = "".join(f"      - {path}\n" for path in code_dependencies(stage))
        return re.sub(r"(?:      - (?:dynadfq|stages)/.*\n)+", lambda _: listed, match[0], count=1)

    return re.sub(r"^  (\w+):\n(?:(?:    .*)?\n)+", block, text, flags=re.MULTILINE)


if __name__ == "__main__":
    graph = ROOT / "dvc.yaml"
    graph.write_text(rewritten(graph.read_text()))
