"""Measurements of the grid's students on labelled test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dynadfq.data.config import DataConfig
from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.controls import permuted
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.evaluation.metrics import entropy_cost_correlation
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.runtime import device
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from stages.artifacts import write_json
from stages.labelled import test_set

CONTROL_SEED = 0


def measure_student(
    settings: Mapping[str, Any], teacher_folder: Path, folder: Path, path: Path
) -> None:
    """Write accuracy and cost of a student, and the teacher's accuracy on the same images, in
    percent.

    Which images the student takes for another class is kept, by their places among those that were
    measured. Of a student whose images choose their widths, the control is measured too: the same
    widths, given to other images at random.
    """
    teacher, student, test = opened(settings, teacher_folder, folder)
    result = evaluate(student, test.batches(settings["batch_size"]), teacher)
    table = result.per_image
    measured: dict[str, Any] = {
        "top1": result.top1,
        "bit_flops_percent": result.bit_flops_percent,
        "bit_flops_percent_std": result.bit_flops_percent_std,
        "mean_activation_bits": result.mean_activation_bits,
        "entropy_bits_spearman": entropy_cost_correlation(table),
        "teacher_top1": 100.0 * float((table["teacher_prediction"] == table["label"]).mean()),
        "test_images": len(test),
        "wrong": places(result.predictions != test.labels),  # for paired comparisons
    }
    if student.scheme.dynamic:
        images = (images for images, _ in test.batches(settings["batch_size"]))
        classes = permuted(student, images, result, CONTROL_SEED, repeats=1)[0]
        wrong = places(classes != test.labels)
        measured |= {"control_top1": 100.0 * (1 - len(wrong) / len(test)), "control_wrong": wrong}
    write_json(path, measured)


def opened(
    settings: Mapping[str, Any], teacher_folder: Path, folder: Path
) -> tuple[Teacher, Student, LabelledSet]:
    """Return the teacher, a student and the labelled test images.

    Raises:
        ValueError: the grid names no labelled images.
    """
    where = device.resolve(settings["device"])
    trust = settings["architectures"]
    teacher = load_teacher(teacher_folder, trust=trust).to(where)
    student = load_student(folder, trust=trust).to(where)
    test = test_set(DataConfig(**settings["data"]), teacher, settings["test_images"])
    if test is None:
        raise ValueError("data.name: null; a grid compares accuracies and needs labelled images")
    return teacher, student, test


def places(chosen: Tensor) -> list[int]:
    """Return where (N,) booleans are true."""
    return [int(place) for place in chosen.nonzero().flatten()]
