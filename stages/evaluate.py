"""Stage ``evaluate``: teacher and students on labelled test images, where there are any, and on the
synthetic ones.
"""

from __future__ import annotations

from dynadfq.evaluation import metrics as results
from dynadfq.evaluation import tables as measure
from dynadfq.evaluation.budget_curve import budget_metrics, budget_table
from dynadfq.evaluation.evaluate import Reiterable, control_scores, evaluate, lowest_surviving_bits
from dynadfq.quant.artifact import read_facts
from dynadfq.quant.build import load_student
from dynadfq.quant.model_card import model_card
from dynadfq.runtime import device, distributed
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.loading import load_teacher
from stages.artifacts import (
    EVALUATION,
    FIXED,
    STUDENT,
    SYNTHETIC,
    TEACHER,
    write_json,
    write_tables,
)
from stages.labelled import test_set
from stages.runtime import begin, main


def run() -> None:
    """Measure, and write artifacts/evaluation. Of several ranks, which share the batches, the first
    one writes.
    """
    p = begin("evaluate")
    where, asked, size = device.resolve(p.device), p.evaluation, p.evaluation.batch_size
    teacher = load_teacher(TEACHER).to(where)
    student, fixed = load_student(STUDENT).to(where), load_student(FIXED).to(where)
    synthetic = SyntheticSet(SYNTHETIC).check()
    with distributed.first_rank_first():  # it decodes the images
        test = test_set(p.data, teacher, asked.test_images)
    walks = 2 + asked.control_repeats + len(asked.sensitivity_bits) + 2 * asked.budgets  # at most
    images_each = len(synthetic if test is None else test)
    with Progress("evaluate", walks * -(-images_each // size), unit="batch") as progress:
        batches = measure.measured_batches(test, synthetic, size, progress)
        images = Reiterable(lambda: (images for images, _ in batches))
        dynamic, constant = evaluate(student, batches, teacher), evaluate(fixed, batches)
        answers = measure.predictions(dynamic, "teacher_prediction")
        expected, score = (answers, "agreement") if test is None else (test.labels, "top1")
        control = control_scores(
            student, images, dynamic.bits, expected, p.seed, asked.control_repeats
        )
        lowest = lowest_surviving_bits(student, images, answers, asked.sensitivity_bits)
        budget = budget_table(
            student, synthetic, images, expected, asked.budgets, p.seed, size, score
        )
    made_of = measure.synthetic_table(student, teacher, synthetic, size)
    metrics = results.headline(dynamic, constant, control, student) | {
        "budget": budget_metrics(budget, score),
        "data": results.data_metrics(p.data.name, test),
        "synthetic": results.synthetic_metrics(made_of, synthetic),
    }
    tables = measure.label_tables(test, dynamic, constant) | {
        "per_image": measure.per_image(dynamic, constant, lowest),
        "synthetic_per_image": made_of,
        "budget": budget,
        "sites": measure.site_table(student, fixed, dynamic.bits),
    }
    if distributed.rank() > 0:
        return
    write_tables(EVALUATION, tables)
    write_json(EVALUATION / "metrics.json", metrics)
    card = model_card(read_facts(STUDENT), metrics)
    atomic_write(EVALUATION / "model_card.md", card.encode())


if __name__ == "__main__":
    main(run, divisible=True)
