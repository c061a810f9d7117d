"""The stages of ``benchmarks/dvc.yaml``: ``python -m benchmarks.cell KIND KEY`` makes one cell.

The work is done by the same code as the stages of the pipeline; here are only other folders, and a
stopwatch.
"""

from __future__ import annotations

import argparse

import stages.runtime  # first: it ends this process with its parent, before torch takes its seconds
from benchmarks import cost
from benchmarks.cells import GENERATED, KINDS, Cell, cell, read_cells
from benchmarks.settings import stage_params


# Each kind imports its own code: torchvision and SciPy take longer to load than some cells to
# compute.
def make_teacher(cell: Cell) -> None:
    """Train or import a teacher."""
    from stages import teacher

    teacher.make(stage_params(teacher.TeacherParams, cell.entry["params"]), *cell.outputs)


def make_similarity(cell: Cell) -> None:
    """Compute a teacher's class similarities."""
    from stages import similarity

    p = stage_params(similarity.SimilarityParams, cell.entry["params"])
    similarity.make(p, *cell.inputs, *cell.outputs)


def make_images(cell: Cell) -> None:
    """Make synthetic images, or take labelled ones."""
    from stages import synthesize

    p = stage_params(synthesize.SynthesizeParams, cell.entry["params"])
    folder, cost_file = cell.outputs
    with cost.measured(cell.name, cost_file, p.device) as measured:
        measured["images"] = len(synthesize.make(p, cell.inputs[0], cell.inputs[1], folder))


def make_student(cell: Cell) -> None:
    """Prepare and fine-tune a student, and keep images of a generator that was trained with it."""
    from benchmarks import generated
    from stages import finetune

    view = finetune.FixedParams if cell.entry["fixed"] else finetune.FinetuneParams
    p = stage_params(view, cell.entry["params"])
    folder, cost_file = cell.outputs
    recipe, streams = generated.keeping(p.method.student.recipe())
    with cost.measured(cell.name, cost_file, p.device):
        finetune.make(p, cell.inputs[0], cell.inputs[1], folder, recipe)
    for stream in streams:
        generated.write_images(folder / GENERATED, stream, p.seed)


def measure_student(cell: Cell) -> None:
    """Measure a student on test images."""
    from benchmarks import measurements

    measurements.measure_student(cell.entry, *cell.inputs, *cell.outputs)


def measure_controls(cell: Cell) -> None:
    """Measure a dynamic student with the widths of its controls."""
    from benchmarks import controls

    controls.measure(cell.entry, *cell.inputs, *cell.outputs)


def measure_images(cell: Cell) -> None:
    """Measure what the figures show of a set of images."""
    from benchmarks import image_statistics

    image_statistics.measure_images(cell.entry, *cell.inputs, *cell.outputs)


MAKERS = {
    "teacher": make_teacher,
    "similarity": make_similarity,
    "images": make_images,
    "labelled": make_images,
    "student": make_student,
    "evaluate": measure_student,
    "controls": measure_controls,
    "statistics": measure_images,
}


def run() -> None:
    """Make the cell that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("key")
    options = parser.parse_args()
    wanted = cell(read_cells(), options.kind, options.key)
    stages.runtime.guarded(lambda: MAKERS[wanted.kind](wanted))


if __name__ == "__main__":
    run()
