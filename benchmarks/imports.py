"""Which code each kind of cell consists of, by method where one is in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stages.imports import ROOT, closure

STAGES = {"teacher": "teacher", "similarity": "similarity"}
METHODS = ROOT / "dynadfq" / "methods"


def code_of_cells() -> Iterator[tuple[str, set[str]]]:
    """Name and files of each list: ``teacher``, ``images-zeroq``, ``student-zeroq`` …; paths from
    the repository.
    """
    for kind, stage in STAGES.items():
        yield kind, _stage(stage)
    for method in sorted(METHODS.glob("*.py")):
        if method.stem not in ("__init__", "base"):
            yield f"images-{method.stem}", _stage("synthesize") | closure(method, "Student")
            yield f"student-{method.stem}", _stage("finetune") | closure(method)
    measurements = closure(ROOT / "benchmarks" / "measurements.py")
    for kind in ("evaluate", "statistics"):
        yield kind, measurements


def _stage(name: str) -> set[str]:
    return closure(ROOT / "stages" / f"{name}.py")


def fingerprints(paths: set[str]) -> dict[str, str]:
    """Checksum of each file's bytes, by path, sorted."""
    from hashlib import sha256

    return {path: sha256(Path(ROOT / path).read_bytes()).hexdigest() for path in sorted(paths)}
