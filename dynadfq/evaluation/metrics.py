"""The content of ``metrics.json``; percentages run from 0 to 100.

Which keys exist depends on the data. Always: `method`, `fixed`, `student` and `teacher` with
`bit_flops_percent` (the first two with `agreement`), `control`, `quantization`, `budget_curve`,
`synthetic`, and `data.name`. With labelled test images also every `top1`, `entropy_bits_spearman`,
`data.test_images`, and, where classes were matched, `data.class_order` (a sentence),
`data.order_assumed`, and `data.class_names` where the network has none. Without labelled images
`data.name` is null, the synthetic images are what is measured, and the control and the budget curve
count agreement with the teacher in place of top-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.correlation import rank_correlation
from dynadfq.evaluation.evaluate import Evaluation, percent_equal
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import GATE


def data_metrics(name: str | None, test: LabelledSet | None) -> dict[str, Any]:
    """Describe the test images, and how their classes were matched with the teacher's."""
    if test is None:
        return {"name": name}
    metrics: dict[str, Any] = {"name": name, "test_images": len(test)}
    if test.classes is not None:
        metrics["class_order"] = test.classes.origin
        metrics["order_assumed"] = test.classes.assumed
        if test.classes.names:
            metrics["class_names"] = list(test.classes.names)
    return metrics


def synthetic_metrics(table: pd.DataFrame, images: SyntheticSet) -> dict[str, Any]:
    """Summarize the synthetic images from their ``synthetic_table``."""
    return {
        "num_images": len(table),
        "one_hot_images": int((table["soft"] == 0).sum()),
        "one_hot_recognized": images.one_hot_recognized,
        "gate": GATE,
        "entropy_bits_spearman": entropy_cost_correlation(table),
    }


def headline(
    dynamic: Evaluation, fixed: Evaluation, control: Sequence[float], student: Student
) -> dict[str, Any]:
    """Compare teacher, both students, and the control that gives the same bits to other images.

    Args:
        dynamic: the dynamic student's evaluation with the teacher.
        fixed: the fixed-width student's, on the same images.
        control: scores of the control's repeats in percent: top-1, or agreement with the teacher
            where images have no labels.
        student: the dynamic student.
    """
    table = dynamic.per_image
    score = "agreement" if dynamic.top1 is None else "top1"
    metrics: dict[str, Any] = {
        "method": student.provenance.get("method"),
        "teacher": {"bit_flops_percent": 100.0},
        "fixed": {
            "bit_flops_percent": fixed.bit_flops_percent,
            "bits": student.scheme.target_bits,
            "agreement": percent_equal(fixed.per_image["prediction"], table["teacher_prediction"]),
        },
        "student": {
            "bit_flops_percent": dynamic.bit_flops_percent,
            "bit_flops_percent_std": dynamic.bit_flops_percent_std,
            "mean_activation_bits": dynamic.mean_activation_bits,
            "agreement": percent_equal(table["prediction"], table["teacher_prediction"]),
            "selector_overhead_percent": student.selector_overhead_percent,
        },
        "control": {
            score: float(np.mean(control)),
            f"{score}_std": float(np.std(control)),
            "repeats": len(control),
        },
        "quantization": {
            "weight_bits": student.scheme.weight_bits,
            "target_bits": student.scheme.target_bits,
            "activation_bits": list(student.scheme.activation_bits),
            "float_input_macs_percent": student.cost.float_input_macs_percent,
        },
    }
    if dynamic.top1 is not None:
        metrics["teacher"]["top1"] = percent_equal(table["teacher_prediction"], table["label"])
        metrics["fixed"]["top1"] = fixed.top1
        metrics["student"]["top1"] = dynamic.top1
        metrics["entropy_bits_spearman"] = entropy_cost_correlation(table)
    return metrics


def entropy_cost_correlation(table: pd.DataFrame) -> float | None:
    """Return Spearman's correlation of prediction entropy and bit-FLOPs over images."""
    return rank_correlation(table["entropy_nats"], table["bit_flops_percent"])
