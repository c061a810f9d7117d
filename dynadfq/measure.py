"""Tables that the report is drawn from: one function a table, tensors and evaluations in, a DataFrame out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.evaluation import Evaluation, answer, rank_correlation, teacher_logits
from dynadfq.losses import label_entropy, prediction_entropy
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import GATE
from dynadfq.teacher import Teacher


def confusion_table(labels: Tensor, predictions: dict[str, Tensor], classes: int) -> pd.DataFrame:
    """Counts of (label, prediction) for each network: (N,) labels and predictions to classes² rows in long form."""
    pairs = pd.DataFrame(list(product(range(classes), repeat=2)), columns=["label", "prediction"])
    for name, predicted in predictions.items():
        pairs[name] = torch.bincount(labels * classes + predicted, minlength=classes * classes).numpy()
    return pairs


def co_occurrence_table(logits: Tensor) -> pd.DataFrame:
    """How often classes a ≠ b share a prediction (DynaDFQ, Fig. 2c): mean of p_a · p_b over (N, classes) logits."""
    p = logits.double().softmax(dim=1)
    matrix = (p.T @ p / len(p)).numpy()
    a, b = np.nonzero(~np.eye(len(matrix), dtype=bool))
    return pd.DataFrame({"class_a": a, "class_b": b, "value": matrix[a, b]})


def synthetic_table(student: Student, teacher: Teacher, images: SyntheticSet, batch_size: int) -> pd.DataFrame:
    """One row a synthetic image: what it was made of, what the teacher sees in it, what the student spends on it."""
    labels = torch.cat([batch.soft_labels for batch in images.batches(batch_size)])
    logits = teacher_logits(teacher, (batch.images for batch in images.batches(batch_size)))
    answers = answer(student, (batch.images for batch in images.batches(batch_size)))
    return pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": labels.argmax(dim=1).numpy(),
            "soft": (labels.amax(dim=1) < 1).long().numpy(),
            "label_entropy_nats": label_entropy(labels.double()).numpy(),
            "teacher_prediction": logits.argmax(dim=1).numpy(),
            "entropy_nats": prediction_entropy(logits.double()).numpy(),
            "bit_flops_percent": student.bit_flops_percent(answers.bits).numpy(),
            "mean_bits": answers.bits.mean(dim=1).double().numpy(),
        }
    )


def synthetic_metrics(table: pd.DataFrame, images: SyntheticSet) -> dict[str, Any]:
    """What is said of the synthetic images in ``metrics.json``; percent in percent."""
    return {
        "num_images": len(table),
        "one_hot_images": int((table["soft"] == 0).sum()),
        "one_hot_recognised": images.one_hot_recognised,
        "gate": GATE,
        "entropy_bits_spearman": rank_correlation(
            table["entropy_nats"].to_numpy(), table["bit_flops_percent"].to_numpy()
        ),
    }


def predictions(evaluation: Evaluation) -> Tensor:
    """Predicted classes of an evaluation's images, (N,)."""
    return torch.from_numpy(evaluation.per_image["prediction"].to_numpy(copy=True))


def site_table(student: Student, fixed: Student, bits: Tensor) -> pd.DataFrame:
    """One row a site: MACs that read it, its ranges, and the percent of images (rows of (N, S) bits) at each width."""
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


def headline(dynamic: Evaluation, fixed: Evaluation, control: Sequence[float], student: Student) -> dict[str, Any]:
    """The figures that decide, in percent: both students, and the control that gives the same bits to other images."""
    table = dynamic.per_image
    teacher_right = (table["teacher_prediction"] == table["label"]).mean()
    return {
        "teacher": {"top1": 100.0 * float(teacher_right), "bit_flops_percent": 100.0},
        "fixed": {
            "top1": fixed.top1,
            "bit_flops_percent": fixed.bit_flops_percent,
            "bits": student.scheme.target_bits,
            "agreement": 100.0 * float((fixed.per_image["prediction"] == table["teacher_prediction"]).mean()),
        },
        "student": {
            "top1": dynamic.top1,
            "bit_flops_percent": dynamic.bit_flops_percent,
            "bit_flops_percent_std": dynamic.bit_flops_percent_std,
            "mean_activation_bits": dynamic.mean_activation_bits,
            "agreement": 100.0 * float((table["prediction"] == table["teacher_prediction"]).mean()),
            "selector_overhead_percent": student.selector_overhead_percent,
        },
        "control": {"top1": float(np.mean(control)), "top1_std": float(np.std(control)), "repeats": len(control)},
        "entropy_bits_spearman": rank_correlation(
            table["entropy_nats"].to_numpy(), table["bit_flops_percent"].to_numpy()
        ),
        "quantization": {
            "weight_bits": student.scheme.weight_bits,
            "target_bits": student.scheme.target_bits,
            "activation_bits": list(student.scheme.activation_bits),
            "float_input_macs_percent": student.cost.float_input_macs_percent,
        },
    }
