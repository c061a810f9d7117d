"""Stage ``trial``: whether the method can make students of this teacher, before it makes images."""

from __future__ import annotations

from pathlib import Path

from dynadfq.params import View
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.runtime.resume import atomic_write
from dynadfq.teacher.loading import load_teacher
from dynadfq.training.config import FinetuneConfig, SelectorConfig
from dynadfq.training.prepare import new_student, require_student
from stages.artifacts import TEACHER
from stages.finetune import MethodStudent
from stages.runtime import TeacherName, main

TRIED = Path("artifacts/tried.txt")


class TrialParams(View):
    """What this stage declares in dvc.yaml."""

    teacher: TeacherName
    quantization: QuantizationConfig
    selector: SelectorConfig
    finetune: FinetuneConfig
    method: MethodStudent


def run(p: TrialParams) -> None:
    """Quantize the teacher, and write a file that is always the same.

    So no later stage runs again because of it.
    """
    teacher = load_teacher(TEACHER, trust=(p.teacher.architecture,))
    recipe = p.method.student.recipe()
    require_student(teacher, recipe, p.finetune)
    for selector in (p.selector, None):
        new_student(teacher, recipe, Scheme.of(p.quantization, selector), seed=0)
    atomic_write(TRIED, b"students can be made of this teacher\n")


if __name__ == "__main__":
    main(run, TrialParams)
