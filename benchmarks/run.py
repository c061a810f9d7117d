"""``python -m benchmarks.run --jobs N``: the active grid in N processes, then DVC takes over what
they made.

``dvc repro`` runs one stage at a time. The cells are computed here instead, each in a process of
its own as soon as what it needs is there, and `dvc repro` finds them finished
(``benchmarks.store``). Killed at any time, both go on where they were when the command is given
again. A cell that fails stops only those that need it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, all_cells, needed, read_cells
from benchmarks.store import identity, keep, place

PIPELINE = "benchmarks/dvc.yaml"
MEASUREMENTS = ("evaluate", "statistics")


class Schedule:
    """Which cells are finished, running, waiting or lost."""

    def __init__(self, cells: Iterable[Cell], done: set[str]) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.needs = needed(self.cells.values())
        # Measurements come as soon as they can: a run that is killed has results for all that it
        # made.
        waiting = (name for name in self.cells if name not in done)
        self.waiting = sorted(waiting, key=lambda name: self.cells[name].kind not in MEASUREMENTS)
        self.done, self.failed = set(done), set[str]()
        self.total = len(self.waiting)
        self._made_by = {path: cell for cell in self.cells.values() for path in cell.outputs}
        self._identities: dict[str, str] = {}

    def next(self) -> Cell | None:
        """A cell whose inputs are there; None while there is none."""
        for name in list(self.waiting):
            if self.needs[name] & self.failed:
                self.waiting.remove(name)
                self.failed.add(name)
            elif self.needs[name] <= self.done:
                self.waiting.remove(name)
                if not place(self.cells[name], self.identity(name)).exists():
                    return self.cells[name]
                self.done.add(name)
        return None

    def finish(self, cell: Cell, well: bool) -> None:
        """Take note of how a cell ended."""
        (self.done if well else self.failed).add(cell.name)

    def identity(self, name: str) -> str:
        """What a cell whose inputs are there depends on."""
        if name not in self._identities:
            self._identities[name] = identity(self.cells[name], self.locate)
        return self._identities[name]

    def locate(self, path: Path) -> Path:
        """An input in the store while it waits there, else in its place."""
        maker = self._made_by.get(path)
        if maker is None or maker.name not in self._identities:
            return path
        kept = place(maker, self._identities[maker.name]) / str(maker.outputs.index(path))
        return kept if kept.exists() else path


def compute_all(schedule: Schedule, jobs: int) -> None:
    """Compute what is missing, ``jobs`` cells at a time: measurements first, then in the grid's
    order.
    """
    context = multiprocessing.get_context(
        "forkserver"
    )  # torch is imported once, and no thread of it is forked
    context.set_forkserver_preload(
        ["benchmarks.cost", "benchmarks.measurements", "stages.finetune", "stages.teacher"]
    )
    running: dict[Any, tuple[BaseProcess, Cell]] = {}
    while True:
        while len(running) < jobs and (cell := schedule.next()) is not None:
            inputs = [schedule.locate(path) for path in cell.inputs]
            process: BaseProcess = context.Process(
                target=work, args=(cell, inputs, schedule.identity(cell.name)), name=cell.name
            )
            process.start()
            running[process.sentinel] = (process, cell)
        if not running:
            break
        for sentinel in wait(list(running)):
            process, cell = running.pop(sentinel)
            process.join()
            schedule.finish(cell, process.exitcode == 0)
            finished = len(schedule.cells) - len(schedule.waiting) - len(running)
            word = "done" if process.exitcode == 0 else f"FAILED (exit status {process.exitcode})"
            print(f"[{finished}/{len(schedule.cells)}] {cell.name} {word}", flush=True)


def work(cell: Cell, inputs: list[Path], identified: str) -> None:
    """One cell, in a process of its own."""
    from benchmarks.cell import compute
    from stages.runtime import main

    _end_with_parent()
    main(lambda: keep(cell, identified, lambda outputs: compute(cell, inputs, outputs)))


def _end_with_parent() -> None:
    """End at once when the process that started this one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def up_to_date(cells: list[Cell]) -> set[str]:
    """The cells that DVC would not run again: neither they nor what they need has changed."""
    output = subprocess.run(
        ["dvc", "status", PIPELINE, "--json"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    changed = {name.rpartition(":")[2] for name in json.loads(output or "{}")}
    needs, fresh = needed(cells), set[str]()
    for cell in cells:  # those that others need come first
        if cell.name not in changed and needs[cell.name] <= fresh:
            fresh.add(cell.name)
    return fresh


def main() -> str:
    """Compute, hand over to DVC, and say what is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time (default 2)")
    jobs = parser.parse_args().jobs
    from benchmarks.code import run as fingerprint_code
    from benchmarks.threads import per_job

    os.environ["OMP_NUM_THREADS"] = str(per_job(jobs))
    fingerprint_code()
    cells = list(all_cells(read_cells()))
    schedule = Schedule(cells, up_to_date(cells))
    print(f"{len(schedule.waiting)} of {len(cells)} cells to compute, {jobs} at a time", flush=True)
    compute_all(schedule, jobs)
    failed = sorted(schedule.failed)
    subprocess.run(
        ["dvc", "repro", *(["--keep-going"] if failed else []), PIPELINE], check=not failed
    )
    if failed:
        sys.exit(f"{len(failed)} cells failed or need one that did: {', '.join(failed)}")
    return "All cells are there; the report is benchmarks/reports/*/index.html"


if __name__ == "__main__":
    print(main())
