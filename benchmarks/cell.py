"""The stages of ``benchmarks/dvc.yaml``: ``python -m benchmarks.cell KIND KEY`` makes one cell.

The work is done by the same code as the stages of the pipeline; here are only other folders, and a
stopwatch.
"""

from __future__ import annotations

import argparse

import stages.runtime  # first: it ends this process with its parent, before torch takes its seconds
from benchmarks import cost, measurements
from benchmarks.cells import KINDS, Cell, cell, read_cells
from benchmarks.settings import stage_params
from stages import finetune, similarity, synthesize, teacher


def compute(cell: Cell) -> None:
    """Make a cell's outputs from its inputs."""
    inputs = cell.inputs
    outputs = cell.outputs
    if cell.kind == "teacher":
        teacher.make(stage_params(teacher.TeacherParams, cell.entry["params"]), outputs[0])
    elif cell.kind == "similarity":
        similarity.make(
            stage_params(similarity.SimilarityParams, cell.entry["params"]), inputs[0], outputs[0]
        )
    elif cell.kind in ("images", "labelled"):
        p = stage_params(synthesize.SynthesizeParams, cell.entry["params"])
        with cost.measured(cell.name, outputs[1], p.device) as measured:
            images = synthesize.make(p, inputs[0], inputs[1], outputs[0])
            measured["images"] = len(images)
    elif cell.kind == "student":
        view = finetune.FixedParams if cell.entry["fixed"] else finetune.FinetuneParams
        seen = stage_params(view, cell.entry["params"])
        with cost.measured(cell.name, outputs[1], seen.device):
            finetune.make(seen, inputs[0], inputs[1], outputs[0])
    elif cell.kind == "evaluate":
        measurements.measure_student(cell.entry, inputs[0], inputs[1], outputs[0])
    else:
        measurements.measure_images(inputs[0], inputs[1], outputs[0])


def run() -> None:
    """Make the cell that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("key")
    options = parser.parse_args()
    wanted = cell(read_cells(), options.kind, options.key)
    stages.runtime.guarded(lambda: compute(wanted))


if __name__ == "__main__":
    run()
