"""Tables that the report is drawn from: one function a table, tensors and evaluations in, a
DataFrame out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.data import LabelledSet
from dynadfq.evaluation.evaluate import Evaluation, Labelled, Reiterable, evaluate
from dynadfq.losses.objective import label_entropy
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def measured_batches(
    test: LabelledSet | None, synthetic: SyntheticSet, size: int, progress: Progress
) -> Reiterable[Labelled]:
    """What an experiment is measured on, walked as often as needed: test images, or synthetic ones
    without labels.
    """

    def walk() -> Iterator[Labelled]:
        batches = (
            ((b.images, None) for b in synthetic.batches(size))
            if test is None
            else test.batches(size)
        )
        for batch in batches:
            yield batch
            progress.step()

    return Reiterable(walk)


def confusion_table(labels: Tensor, predictions: dict[str, Tensor], classes: int) -> pd.DataFrame:
    """Counts of (label, prediction) for each network: (N,) labels and predictions to long form,
    without empty rows.
    """
    counts = {
        name: torch.bincount(labels * classes + predicted, minlength=classes * classes)
        for name, predicted in predictions.items()
    }
    pairs = torch.stack(list(counts.values())).any(dim=0).nonzero()[:, 0]
    columns = {"label": pairs // classes, "prediction": pairs % classes} | {
        n: c[pairs] for n, c in counts.items()
    }
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def co_occurrence_table(matrix: Tensor) -> pd.DataFrame:
    """How often classes a < b share a prediction: (classes, classes) means of p_a · p_b to one row
    a pair.
    """
    a, b = np.triu_indices(len(matrix), k=1)
    return pd.DataFrame({"class_a": a, "class_b": b, "value": matrix.numpy()[a, b]})


def synthetic_table(
    student: Student, teacher: Teacher, images: SyntheticSet, batch_size: int
) -> pd.DataFrame:
    """One row a synthetic image: what it was made of, what the teacher sees in it, what the student
    spends on it.
    """
    soft_labels: list[Tensor] = []

    def batches() -> Iterator[tuple[Tensor, None]]:
        for batch in images.batches(batch_size):
            soft_labels.append(batch.soft_labels)
            yield batch.images, None

    found = evaluate(student, batches(), teacher).per_image
    labels = torch.cat(soft_labels)
    return pd.DataFrame(
        {
            "index": found["index"],
            "label": labels.argmax(dim=1).numpy(),
            "soft": (labels.amax(dim=1) < 1).long().numpy(),
            "label_entropy_nats": label_entropy(labels.double()).numpy(),
            **found[["teacher_prediction", "entropy_nats", "bit_flops_percent", "mean_bits"]],
        }
    )


def predictions(evaluation: Evaluation, of: str = "prediction") -> Tensor:
    """Predicted classes of an evaluation's images, (N,): the student's, or the teacher's
    ("teacher_prediction").
    """
    return torch.from_numpy(evaluation.per_image[of].to_numpy(copy=True))


def per_image(dynamic: Evaluation, fixed: Evaluation, lowest_bits: Tensor) -> pd.DataFrame:
    """One row a measured image: the dynamic student's, the fixed one's answer, and the lowest
    surviving width.
    """
    return dynamic.per_image.assign(
        fixed_prediction=fixed.per_image["prediction"], lowest_bits=lowest_bits.numpy()
    )


def label_tables(
    test: LabelledSet | None, dynamic: Evaluation, fixed: Evaluation
) -> dict[str, pd.DataFrame]:
    """The tables that need labelled images, by name; none without."""
    if test is None or dynamic.teacher is None:
        return {}
    answers = {
        "teacher": dynamic.teacher.predictions,
        "fixed": predictions(fixed),
        "student": predictions(dynamic),
    }
    return {
        "confusion": confusion_table(test.labels, answers, len(dynamic.teacher.co_occurrence)),
        "co_occurrence": co_occurrence_table(dynamic.teacher.co_occurrence),
    }


def site_table(student: Student, fixed: Student, bits: Tensor) -> pd.DataFrame:
    """One row a site: MACs that read it, its ranges, and the percent of images (rows of (N, S)
    bits) at each width.
    """
    table = pd.DataFrame(
        {
            "site": range(len(student.sites)),
            "name": student.site_names,
            "macs": (student.cost.per_site / student.scheme.weight_bits).round().long().numpy(),
            "fixed_low": [site.low.item() for site in fixed.sites],
            "fixed_high": [site.high.item() for site in fixed.sites],
            "low": [site.low.item() for site in student.sites],
            "high": [site.high.item() for site in student.sites],
        }
    )
    for width in student.scheme.activation_bits:
        table[f"bits_{width}"] = 100.0 * (bits == width).double().mean(dim=0).numpy()
    return table
