"""Stage ``evaluate``: teacher and students on labelled test images, where there are any, and on the synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from dynadfq import device, measure, results
from dynadfq.artifacts import EVALUATION, FIXED, STUDENT, SYNTHETIC, TEACHER, write_json, write_table
from dynadfq.checkpoint import atomic_write
from dynadfq.evaluation import Again, control_scores, evaluate, lowest_surviving_bits
from dynadfq.quant.build import load_student
from dynadfq.quant.card import model_card
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher import load_teacher
from dynadfq.tradeoff import dial_metrics, dial_table
from stages.labelled import test_set
from stages.runtime import begin, main


def run() -> None:
    """Measure, and write artifacts/evaluation."""
    p = begin("evaluate")
    where, size = device.resolve(p.device), p.evaluation.batch_size
    teacher = load_teacher(TEACHER).to(where)
    student, fixed = load_student(STUDENT).to(where), load_student(FIXED).to(where)
    images_made, test = SyntheticSet(SYNTHETIC).check(), test_set(p.data, teacher, p.evaluation.test_images)

    def walk() -> Iterator[tuple[Tensor, Tensor | None]]:
        yield from ((b.images, None) for b in images_made.batches(size)) if test is None else test.batches(size)

    images = Again(lambda: (batch for batch, _ in walk()))
    dynamic, constant = evaluate(student, walk(), teacher), evaluate(fixed, walk())
    answers = measure.predictions(dynamic, "teacher_prediction")
    expected, score = (answers, "agreement") if test is None else (test.labels, "top1")
    control = control_scores(student, images, dynamic.bits, expected, p.seed, p.evaluation.control_repeats)
    lowest = lowest_surviving_bits(student, images, answers, p.evaluation.sensitivity_bits)
    synthetic = measure.synthetic_table(student, teacher, images_made, size)
    dial = dial_table(student, images_made, images, expected, p.evaluation.budgets, p.seed, size, score)
    metrics = results.headline(dynamic, constant, control, student) | {
        "dial": dial_metrics(dial, score),
        "data": results.data_metrics(p.data.name, test),
        "synthetic": results.synthetic_metrics(synthetic, images_made),
    }
    tables = measure.label_tables(test, dynamic, constant) | {
        "per_image": measure.per_image(dynamic, constant, lowest),
        "synthetic_per_image": synthetic,
        "dial": dial,
        "sites": measure.site_table(student, fixed, dynamic.bits),
    }
    for name, table in tables.items():
        write_table(EVALUATION / f"{name}.csv", table)
    write_json(EVALUATION / "metrics.json", metrics)
    stored = (STUDENT / "model.safetensors").stat().st_size
    atomic_write(EVALUATION / "model_card.md", model_card(student, stored, metrics).encode())


if __name__ == "__main__":
    main(run)
