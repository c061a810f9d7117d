"""Tables of an evaluation, which the report is drawn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.evaluation.evaluate import Evaluation, evaluate
from dynadfq.losses.objective import label_entropy
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def confusion_table(labels: Tensor, predictions: dict[str, Tensor], classes: int) -> pd.DataFrame:
    """Count (label, prediction) pairs for each network.

    Args:
        labels: (N,) classes.
        predictions: (N,) classes by network.
        classes: number of classes.

    Returns:
        One row per pair that occurs: label, prediction, and a column of counts per network.
    """
    counts = {
        name: torch.bincount(labels * classes + predicted, minlength=classes * classes)
        for name, predicted in predictions.items()
    }
    pairs = torch.stack(list(counts.values())).any(dim=0).nonzero()[:, 0]
    columns = {"label": pairs // classes, "prediction": pairs % classes}
    for name, count in counts.items():
        columns[name] = count[pairs]
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def co_occurrence_table(matrix: Tensor) -> pd.DataFrame:
    """Return one row per pair of classes a < b of a (classes, classes) co-occurrence matrix."""
    a, b = np.triu_indices(len(matrix), k=1)
    return pd.DataFrame({"class_a": a, "class_b": b, "value": matrix.numpy()[a, b]})


def synthetic_table(
    student: Student, teacher: Teacher, images: SyntheticSet, batch_size: int
) -> pd.DataFrame:
    """Return one row per synthetic image: its label, the teacher's prediction, and its cost."""
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


def per_image_table(
    dynamic: Evaluation, fixed: Evaluation, lowest_bits: Tensor | None
) -> pd.DataFrame:
    """Return one row per image: the dynamic student's, with the fixed one's prediction.

    ``lowest_bits`` is what ``lowest_surviving_bits`` returned, (N,); None where activations have no
    widths.
    """
    table = dynamic.per_image.assign(fixed_prediction=fixed.predictions.numpy())
    return table if lowest_bits is None else table.assign(lowest_bits=lowest_bits.numpy())


def site_table(student: Student, fixed: Student, bits: Tensor) -> pd.DataFrame:
    """Return one row per activation site.

    Args:
        student: the dynamic student.
        fixed: the fixed-width student.
        bits: (N, S) widths that the dynamic student chose for N images.

    Returns:
        The site's name, the MACs that read it, both students' ranges at the target width (and the
        dynamic one's at each width that has its own), and for each candidate width the percent of
        images that use it.
    """

    def bounds(of: Student, width: int) -> list[list[float]]:
        """Lower and upper bounds of all sites."""
        ranges = [site.range_at(width) for site in of.sites]
        return [[bounds[end].item() for bounds in ranges] for end in (0, 1)]

    target = student.scheme.target_bits
    fixed_low, fixed_high = bounds(fixed, target)
    low, high = bounds(student, target)
    table = pd.DataFrame(
        {
            "site": range(len(student.sites)),
            "name": student.site_names,
            "macs": student.cost.macs_per_site.round().long().numpy(),
            "fixed_low": fixed_low,
            "fixed_high": fixed_high,
            "low": low,
            "high": high,
        }
    )
    for width in student.scheme.range_widths:
        table[f"low_{width}"], table[f"high_{width}"] = bounds(student, width)
    for width in sorted({*student.scheme.activation_bits, *bits.unique().int().tolist()}):
        table[f"bits_{width}"] = 100.0 * (bits == width).double().mean(dim=0).numpy()
    return table
