"""Stages ``finetune`` and ``finetune_fixed`` (``--fixed``): a dynamic student, and one of a single
width.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynadfq.methods import METHODS
from dynadfq.ops.precision import compute_precision, require_precision
from dynadfq.params import StageParams
from dynadfq.quant.config import Scheme
from dynadfq.quant.model_card import provenance
from dynadfq.runtime import device, distributed
from dynadfq.runtime.resume import Scratch, digest
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.loading import load_teacher
from dynadfq.training.config import SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student
from dynadfq.training.prepare import new_student, prepare_student
from dynadfq.training.ranks import require_divisible
from stages.artifacts import FIXED, STUDENT, SYNTHETIC, TEACHER, write_table
from stages.runtime import begin, main


def make(
    p: StageParams, fixed: bool, teacher_folder: Path, images_folder: Path, folder: Path
) -> None:
    """Calibrate, round, give the selector its warm-up, fine-tune, and save the student to
    ``folder``.

    The first rank prepares and saves; all fine-tune, and begin with what it prepared.
    """
    where = device.resolve(p.device)
    require_precision(p.precision, where)
    teacher = load_teacher(teacher_folder).to(where)
    images = SyntheticSet(images_folder).check()
    stage = "finetune_fixed" if fixed else "finetune"
    scratch = Scratch.of_stage(stage, p.as_dict(), digest(teacher_folder), digest(images_folder))
    recipe, selector = p.method.student.recipe(), None if fixed else p.selector
    require_divisible(recipe, p.finetune.batch_size)
    student = new_student(teacher, recipe, Scheme.of(p.quantization, selector), p.seed)
    training = selector or SelectorTrainingConfig()
    if distributed.rank() == 0 and not scratch.exists():
        prepare_student(
            student, teacher, images, recipe, p.seed, p.quantization, p.finetune, training
        )
    with compute_precision(p.precision, where):
        history = finetune_student(
            student, teacher, images, recipe, p.finetune, training, p.seed, scratch
        )
    steps = int(history["step"].iloc[-1]) if len(history) else 0
    if distributed.rank() > 0:
        return
    name = p.method.name
    data_free = METHODS[name].data_free
    rounding = p.quantization.rounding
    student.provenance = provenance(name, data_free, len(images), steps, rounding)
    student.save(folder)
    write_table(folder / "history.csv", history)
    scratch.delete()


def run() -> None:
    """Write artifacts/student or artifacts/fixed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", action="store_true", help="the student of fixed target width")
    fixed = parser.parse_args().fixed
    stage, folder = ("finetune_fixed", FIXED) if fixed else ("finetune", STUDENT)
    make(begin(stage), fixed, TEACHER, SYNTHETIC, folder)


if __name__ == "__main__":
    main(run, divisible=True)
