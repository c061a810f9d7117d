"""Stages ``finetune`` and ``finetune_fixed`` (``--fixed``): a dynamic student, and one of a single width."""

from __future__ import annotations

import argparse

from dynadfq import device
from dynadfq.artifacts import FIXED, STUDENT, SYNTHETIC, TEACHER, write_table
from dynadfq.checkpoint import Scratch, digest
from dynadfq.quant.build import build_student
from dynadfq.quant.calibration import CALIBRATION_BATCH, calibrate, observer
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher import load_teacher
from dynadfq.training.student import finetune_student
from dynadfq.training.warm_start import warm_start
from stages.experiment import budget_of, schedule_of, scheme_of, warm_start_of
from stages.runtime import begin, main


def run() -> None:
    """Calibrate, give the selector its head start, fine-tune, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", action="store_true", help="the student of fixed target width")
    fixed = parser.parse_args().fixed
    stage, folder = ("finetune_fixed", FIXED) if fixed else ("finetune", STUDENT)
    p = begin(stage)
    teacher = load_teacher(TEACHER).to(device.resolve(p.device))
    images = SyntheticSet(SYNTHETIC).check()
    scratch = Scratch.of_stage(stage, p.as_dict(), digest(TEACHER), digest(SYNTHETIC))
    ranges = p.quantization.ranges
    student = build_student(teacher, scheme_of(p, fixed), p.seed)
    if not scratch.exists():
        rule = observer(ranges.observer, p.quantization.target_bits, ranges.quantile)
        batches = (batch.images for batch in images.batches(CALIBRATION_BATCH, p.finetune.calibration_images))
        calibrate(student, batches, rule)
        warm_start(student, teacher, images, warm_start_of(p, fixed), p.seed)
    recipe, schedule, budget = p.method.student.recipe(), schedule_of(p, fixed), budget_of(p, fixed)
    history = finetune_student(student, teacher, images, recipe, schedule, budget, p.seed, scratch)
    student.save(folder)
    write_table(folder / "history.csv", history)
    scratch.delete()


if __name__ == "__main__":
    main(run)
