"""The whole evaluation of an experiment: a dynamic student, a fixed-width one, and controls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.batches import LabelledBatch
from dynadfq.evaluation.budget_curve import budget_metrics, budget_table
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.evaluation.controls import (
    ceiling_widths,
    lowest_surviving_bits,
    measure_controls,
    uniform_predictions,
)
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.evaluation.metrics import data_metrics, headline, synthetic_metrics
from dynadfq.evaluation.tables import (
    co_occurrence_table,
    confusion_table,
    per_image_table,
    site_table,
    synthetic_table,
)
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


@dataclass(frozen=True)
class Measured:
    """The images of the evaluation, which can be read any number of times.

    test: labelled images; None where there are none.
    synthetic: the synthetic images, which are measured in their place.
    batch_size: images in a forward pass.
    progress: counts the batches.
    """

    test: LabelledSet | None
    synthetic: SyntheticSet
    batch_size: int
    progress: Progress

    def batches(self) -> Iterator[LabelledBatch]:
        """Yield (images, labels), (B, C, H, W) and (B,); labels are None for synthetic images."""
        if self.test is None:
            for batch in self.synthetic.batches(self.batch_size):
                yield batch.images, None
                self.progress.step()
        else:
            for images, labels in self.test.batches(self.batch_size):
                yield images, labels
                self.progress.step()

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the images alone, (B, C, H, W)."""
        for images, _ in self.batches():
            yield images


def compare(
    student: Student,
    fixed: Student,
    teacher: Teacher,
    synthetic: SyntheticSet,
    test: LabelledSet | None,
    data_name: str | None,
    config: EvaluationConfig,
    seed: int,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Measure everything that the report shows.

    Args:
        student: the dynamic student.
        fixed: the student of one width.
        teacher: their float model.
        synthetic: the images that the students were fine-tuned on.
        test: labelled test images; without them, agreement with the teacher on the synthetic
            images takes the place of top-1.
        data_name: of the test images.
        config: what is measured, and in which batches.
        seed: of the permutations.

    Returns:
        The content of ``metrics.json``, and the tables by file stem.
    """
    size = config.batch_size
    repeats = config.control_repeats
    floats = student.scheme.float_activations
    widths = () if floats else config.sensitivity_bits
    uniform = set(widths)
    passes = 2
    if student.scheme.dynamic:
        uniform |= {*ceiling_widths(student)}
        passes += repeats + 1 + 2 * config.budgets  # at most
    passes += len(uniform)
    batches = math.ceil(len(synthetic if test is None else test) / size)
    with Progress("evaluate", passes * batches, unit="batch") as progress:
        measured = Measured(test, synthetic, size, progress)
        dynamic = evaluate(student, measured.batches(), teacher)
        constant = evaluate(fixed, measured.batches())
        assert dynamic.teacher is not None
        answers = dynamic.teacher.predictions
        score = "agreement" if test is None else "top1"
        expected = answers if test is None else test.labels
        at_width = uniform_predictions(student, measured, uniform)
        controls = measure_controls(student, measured, dynamic, at_width, expected, seed, repeats)
        lowest = None if floats else lowest_surviving_bits(at_width, answers, widths)
        curve = budget_table(
            student, synthetic, measured, expected, config.budgets, seed, size, score
        )
    made = synthetic_table(student, teacher, synthetic, size)
    metrics = headline(dynamic, constant, controls, expected, student) | {
        "budget_curve": budget_metrics(curve, score),
        "data": data_metrics(data_name, test),
        "synthetic": synthetic_metrics(made, synthetic),
    }
    tables = {
        "per_image": per_image_table(dynamic, constant, lowest),
        "synthetic_per_image": made,
        "budget_curve": curve,
        "sites": site_table(student, fixed, dynamic.bits),
    }
    if test is not None:
        networks = {
            "teacher": answers,
            "fixed": constant.predictions,
            "student": dynamic.predictions,
        }
        tables["confusion"] = confusion_table(test.labels, networks, teacher.num_classes)
        tables["co_occurrence"] = co_occurrence_table(dynamic.teacher.co_occurrence)
    return metrics, tables
