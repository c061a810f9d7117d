"""Stages ``finetune`` and ``finetune_fixed`` (``--fixed``): dynamic and fixed-width students."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import SerializeAsAny

from dynadfq.methods import METHODS
from dynadfq.methods.student import StudentConfig
from dynadfq.ops.config import PrecisionChoice
from dynadfq.ops.precision import finetuning_precision
from dynadfq.params import View
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.runtime import device, distributed
from dynadfq.runtime.resume import digest
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.loading import load_teacher
from dynadfq.training.config import FinetuneConfig, SelectorConfig, SelectorTrainingConfig
from dynadfq.training.prepare import new_student, with_widths
from dynadfq.training.ranks import require_divisible
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student
from stages.artifacts import FIXED, STUDENT, SYNTHETIC, TEACHER, write_table
from stages.runtime import TeacherName, main, unfinished


class MethodStudent(View):
    """The method, without its images."""

    name: str
    preset: str
    student: SerializeAsAny[StudentConfig]


class FixedParams(View):
    """What ``finetune_fixed`` declares in dvc.yaml."""

    seed: int
    device: str
    precision: PrecisionChoice
    teacher: TeacherName
    quantization: QuantizationConfig
    finetune: FinetuneConfig
    method: MethodStudent


class FinetuneParams(FixedParams):
    """What ``finetune`` declares in dvc.yaml."""

    selector: SelectorConfig


def make(
    p: FixedParams,
    teacher_folder: Path,
    images_folder: Path,
    folder: Path,
    recipe: StudentRecipe | None = None,
) -> None:
    """Prepare and fine-tune a student with all ranks; the first one saves it to ``folder``.

    Args:
        p: the parameters.
        teacher_folder: of the float network.
        images_folder: of the synthetic images.
        folder: is written.
        recipe: trains as the method's recipe does, which is the default, and may only keep more of
            what it makes. Unfinished work of the two is shared: what resumes it looks at the
            parameters alone.
    """
    where = device.resolve(p.device)
    precision = finetuning_precision(p.precision, where)
    teacher = load_teacher(teacher_folder, trust=(p.teacher.architecture,)).to(where)
    images = SyntheticSet(images_folder).check(teacher.input_shape, teacher.num_classes)
    selector = p.selector if isinstance(p, FinetuneParams) else None
    stage = "finetune_fixed" if selector is None else "finetune"
    seen = p.model_dump(mode="json")
    scratch = unfinished(stage, p.method.name, seen, digest(teacher_folder), digest(images_folder))
    recipe = recipe or p.method.student.recipe()
    require_divisible(recipe, p.finetune.batch_size)
    with distributed.on_first_rank(scratch.claimed):
        scheme = with_widths(
            teacher,
            recipe,
            Scheme.of(p.quantization, selector),
            images,
            p.quantization,
            scratch.part("sensitivity"),
        )
        student = new_student(teacher, recipe, scheme, p.seed)
        history = train_student(
            student,
            teacher,
            images,
            recipe,
            p.quantization,
            p.finetune,
            selector or SelectorTrainingConfig(),
            p.seed,
            precision,
            scratch,
            p.method.name,
            METHODS[p.method.name].data_free,
        )
        if distributed.rank() > 0:
            return
        student.save(folder)
        write_table(folder / "history.csv", history)
        scratch.delete()


def fixed(p: FixedParams) -> None:
    """Write artifacts/fixed."""
    make(p, TEACHER, SYNTHETIC, FIXED)


def dynamic(p: FinetuneParams) -> None:
    """Write artifacts/student."""
    make(p, TEACHER, SYNTHETIC, STUDENT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", action="store_true", help="the student of fixed target width")
    if parser.parse_args().fixed:
        main(fixed, FixedParams, divisible=True)
    else:
        main(dynamic, FinetuneParams, divisible=True)
