"""Stage ``evaluate``: teacher and students on the labelled test set, and on the synthetic images."""

from __future__ import annotations

from dynadfq import data, device, measure, seeding
from dynadfq.artifacts import EVALUATION, FIXED, STUDENT, SYNTHETIC, TEACHER, write_json, write_table
from dynadfq.checkpoint import atomic_write
from dynadfq.evaluation import evaluate, lowest_surviving_bits, percent_equal, shuffled_control, teacher_logits
from dynadfq.measure import predictions
from dynadfq.quant.build import load_student
from dynadfq.quant.card import model_card
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher import load_teacher
from dynadfq.tradeoff import dial_metrics, dial_table
from stages.runtime import begin, main, root


def run() -> None:
    """Measure, and write artifacts/evaluation."""
    p = begin("evaluate")
    where, size = device.resolve(p.device), p.evaluation.batch_size
    teacher = load_teacher(TEACHER).to(where)
    student, fixed = load_student(STUDENT).to(where), load_student(FIXED).to(where)
    everything = data.load(p.data.name, root(p.data.root), image_size=teacher.input_shape[1])
    test = everything.spread(p.evaluation.test_images)
    images = [batch for batch, _ in test.batches(size)]

    dynamic, constant = evaluate(student, test.batches(size), teacher), evaluate(fixed, test.batches(size))
    shuffles = (seeding.generator(p.seed, "control", repeat) for repeat in range(p.evaluation.control_repeats))
    control = [
        percent_equal(shuffled_control(student, images, dynamic.bits, rng).predictions, test.labels) for rng in shuffles
    ]
    logits = teacher_logits(teacher, images)
    per_image = dynamic.per_image.assign(
        fixed_prediction=constant.per_image["prediction"],
        lowest_bits=lowest_surviving_bits(student, images, logits.argmax(dim=1), p.evaluation.sensitivity_bits).numpy(),
    )
    images_made = SyntheticSet(SYNTHETIC).check()
    synthetic = measure.synthetic_table(student, teacher, images_made, size)
    dial = dial_table(student, images_made, images, test.labels, p.evaluation.budgets, p.seed)
    metrics = measure.headline(dynamic, constant, control, student) | {
        "dial": dial_metrics(dial),
        "data": {"name": p.data.name, "test_images": len(test)},
        "synthetic": measure.synthetic_metrics(synthetic, images_made),
    }
    answers = {"teacher": logits.argmax(dim=1), "fixed": predictions(constant), "student": predictions(dynamic)}
    write_table(EVALUATION / "per_image.csv", per_image)
    write_table(EVALUATION / "synthetic_per_image.csv", synthetic)
    write_table(EVALUATION / "dial.csv", dial)
    write_table(EVALUATION / "sites.csv", measure.site_table(student, fixed, dynamic.bits))
    write_table(EVALUATION / "confusion.csv", measure.confusion_table(test.labels, answers, teacher.num_classes))
    write_table(EVALUATION / "co_occurrence.csv", measure.co_occurrence_table(logits))
    write_json(EVALUATION / "metrics.json", metrics)
    stored = (STUDENT / "model.safetensors").stat().st_size
    atomic_write(EVALUATION / "model_card.md", model_card(student, stored, metrics).encode())


if __name__ == "__main__":
    main(run)
