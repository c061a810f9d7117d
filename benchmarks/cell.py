"""The stages of ``benchmarks/dvc.yaml``: ``python -m benchmarks.cell KIND KEY`` makes one cell.

The work is done by the same code as the stages of the pipeline; here are only other folders, and a
stopwatch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cells import KINDS, Cell, cell, read_cells
from benchmarks.store import take


def compute(cell: Cell, inputs: list[Path], outputs: list[Path]) -> None:
    """Make a cell's outputs from its inputs, wherever they lie now."""
    # torch takes seconds to import, and a cell that waits in the store needs none of it.
    from benchmarks import cost, measurements
    from benchmarks.settings import stage_params
    from dynadfq.runtime import seeding
    from stages import finetune, similarity, synthesize, teacher

    seeding.deterministic()
    folders = inputs[1:]  # the first is the code
    if cell.kind == "teacher":
        teacher.make(stage_params("teacher", cell.entry["params"]), outputs[0])
    elif cell.kind == "similarity":
        similarity.make(stage_params("similarity", cell.entry["params"]), folders[0], outputs[0])
    elif cell.kind in ("images", "labelled"):
        p = stage_params("synthesize", cell.entry["params"])
        with cost.measured(cell.name, outputs[1], p.device) as measured:
            images = synthesize.make(p, folders[0], folders[1], outputs[0])
            measured["images"] = len(images)
    elif cell.kind == "student":
        fixed = cell.entry["fixed"]
        p = stage_params("finetune_fixed" if fixed else "finetune", cell.entry["params"])
        with cost.measured(cell.name, outputs[1], p.device):
            finetune.make(p, fixed, folders[0], folders[1], outputs[0])
    elif cell.kind == "evaluate":
        measurements.measure_student(cell.entry, folders[0], folders[1], outputs[0])
    else:
        measurements.measure_images(folders[0], folders[1], outputs[0])


def run() -> None:
    """Take the cell from the store, or make it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("key")
    options = parser.parse_args()
    wanted = cell(read_cells(), options.kind, options.key)
    if not take(wanted):
        from stages.runtime import main

        main(lambda: compute(wanted, list(wanted.inputs), list(wanted.outputs)))


if __name__ == "__main__":
    run()
