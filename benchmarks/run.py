"""``python -m benchmarks.run --jobs N``: compute the active grid, N cells at a time.

``dvc repro`` runs one stage at a time. Several ``dvc repro --single-item`` share the cells here;
DVC releases its lock while a cell computes (docs/decisions/0011-grid-queue.md). After a kill, the
next run computes the cells that are missing. A failed cell stops only those that read it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.cells import GROUPS, NO_GRID, cell, controls_of, evaluation_of, read_cells
from stages import end_with_parent
from stages.launch import threads_each

PIPELINE = "benchmarks/dvc.yaml"
# Each wave reads what those before it made. A student is measured at once, so that a killed run
# leaves results.
WAVES = (
    ("teacher",),
    ("similarity",),
    ("images", "labelled"),
    ("student", "evaluate"),
    ("controls",),
    ("statistics",),
)


def changed() -> set[str]:
    """Return the names of the cells that DVC would run again, such as ``student@KEY``."""
    command = ["dvc", "status", "--json", PIPELINE]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return {name.rpartition(":")[2] for name in json.loads(output or "{}")}


def not_needed(content: Mapping[str, Any]) -> set[str]:
    """Return the cells that no student without a measurement needs, and figures without images."""
    students = content["students"]
    measurements = {key: [evaluation_of(key)] for key in students}
    for key in content["controls"]:
        measurements[key].append(controls_of(key))
    lacking = [key for key, paths in measurements.items() if not all(p.exists() for p in paths)]
    needed = {*lacking, *(students[key]["images"] for key in lacking)}
    kinds = ("images", "labelled", "student", "evaluate", "controls")
    found = {
        f"{kind}@{key}" for kind in kinds for key in content[GROUPS[kind]] if key not in needed
    }
    for key in content["statistics"]:
        one = cell(content, "statistics", key)
        if not all(path.exists() for path in one.inputs):
            found.add(one.name)
    return found


def tasks(
    content: Mapping[str, Any], kinds: tuple[str, ...], left_out: Collection[str] = ()
) -> Iterator[list[str]]:
    """Yield the changed cells of one wave that can run: for each key the cells to run in order."""
    stale = changed().difference(left_out)
    for key in dict.fromkeys(key for kind in kinds for key in content[GROUPS[kind]]):
        cells = [cell(content, kind, key) for kind in kinds if key in content[GROUPS[kind]]]
        names = [one.name for one in cells]
        if stale.intersection(names) and all(path.exists() for path in cells[0].inputs):
            yield names


def reproduce(names: list[str]) -> None:
    """Let DVC run some cells, one after another."""
    targets = [f"{PIPELINE}:{name}" for name in names]
    command = ["dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", *targets]
    process = subprocess.run(command, preexec_fn=end_with_parent)
    print(f"{', '.join(names)}: {'FAILED' if process.returncode else 'done'}", flush=True)


def main() -> str:
    """Compute what DVC calls changed, and name what is missing afterwards."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time (default 2)")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="only students that lack a measurement, and what they need",
    )
    asked = parser.parse_args()
    jobs = asked.jobs
    os.environ["OMP_NUM_THREADS"] = str(threads_each(jobs))
    content = read_cells()
    if not content["reports"]:
        sys.exit(NO_GRID)
    if not changed():
        return "All cells are up to date"
    for kinds in WAVES:
        with ThreadPoolExecutor(jobs) as pool:
            left_out = not_needed(content) if asked.missing else set()
            list(pool.map(reproduce, tasks(content, kinds, left_out)))
    reproduce([f"table@{name}" for name in content["reports"]])
    missing = sorted(changed().difference(not_needed(content) if asked.missing else ()))
    if missing:
        sys.exit(f"{len(missing)} cells failed or read one that did: {', '.join(missing)}")
    return "All cells are up to date; the report is benchmarks/reports/*/index.html"


if __name__ == "__main__":
    print(main())
