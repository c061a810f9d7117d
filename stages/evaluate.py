"""Stage ``evaluate``: teacher and students on labelled test images, or on the synthetic ones."""

from __future__ import annotations

from dynadfq.data.config import DataConfig
from dynadfq.evaluation.comparison import compare
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.evaluation.record import Metrics
from dynadfq.params import View
from dynadfq.quant.artifact import read_facts
from dynadfq.quant.build import load_student
from dynadfq.quant.model_card import model_card
from dynadfq.runtime import device, distributed
from dynadfq.runtime.artifact import record_bytes
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.loading import load_teacher
from stages.artifacts import (
    EVALUATION,
    FIXED,
    STUDENT,
    SYNTHETIC,
    TEACHER,
    write_tables,
)
from stages.labelled import data_fingerprint, test_set
from stages.runtime import TeacherName, main


class EvaluateParams(View):
    """What this stage declares in dvc.yaml."""

    seed: int
    device: str
    teacher: TeacherName
    data: DataConfig
    evaluation: EvaluationConfig


def run(p: EvaluateParams) -> None:
    """Measure with all ranks; the first one writes artifacts/evaluation."""
    where = device.resolve(p.device)
    trust = (p.teacher.architecture,)
    teacher = load_teacher(TEACHER, trust=trust).to(where)
    student = load_student(STUDENT, trust=trust).to(where)
    fixed = load_student(FIXED, trust=trust).to(where)
    synthetic = SyntheticSet(SYNTHETIC).check(teacher.input_shape, teacher.num_classes)
    fingerprint = distributed.from_first(lambda: data_fingerprint(p.data))
    with distributed.first_rank_first():  # it decodes the images
        test = test_set(p.data, teacher, p.evaluation.test_images)
    metrics, tables = compare(
        student, fixed, teacher, synthetic, test, p.data.name, p.evaluation, p.seed
    )
    if distributed.rank() > 0:
        return
    if fingerprint is not None:
        metrics["data"]["fingerprint"] = fingerprint
    write_tables(EVALUATION, tables)
    atomic_write(EVALUATION / "metrics.json", record_bytes(metrics, Metrics))
    card = model_card(read_facts(STUDENT).model_dump(mode="json"), metrics)
    atomic_write(EVALUATION / "model_card.md", card.encode())


if __name__ == "__main__":
    main(run, EvaluateParams, divisible=True)
