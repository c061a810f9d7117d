"""The figures that stand in ``metrics.json``; percent in percent.

Which keys exist depends on the data. Always: `fixed`, `student` and `teacher` with
`bit_flops_percent` (the first two with `agreement`), `control`, `quantization`, `budget`,
`synthetic`, and `data.name`. With labelled test images alone: every `top1`,
`entropy_bits_spearman`, `data.test_images`, and, where classes were matched, `data.class_order` in
words and `data.order_assumed`. Without labelled images `data.name` is null, the synthetic images
are what is measured, and the control, the budget's gain and its table count agreement with the
teacher in place of top-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dynadfq.data import LabelledSet
from dynadfq.evaluation.evaluate import Evaluation, rank_correlation
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import GATE


def data_metrics(name: str | None, test: LabelledSet | None) -> dict[str, Any]:
    """What the networks were measured on, and how its classes became the teacher's where that is a
    question.
    """
    if test is None:
        return {"name": name}
    order = (
        {}
        if test.classes is None
        else {"class_order": test.classes.words, "order_assumed": test.classes.assumed}
    )
    return {"name": name, "test_images": len(test), **order}


def synthetic_metrics(table: pd.DataFrame, images: SyntheticSet) -> dict[str, Any]:
    """What is said of the synthetic images in ``metrics.json``; percent in percent."""
    return {
        "num_images": len(table),
        "one_hot_images": int((table["soft"] == 0).sum()),
        "one_hot_recognized": images.one_hot_recognized,
        "gate": GATE,
        "entropy_bits_spearman": rank_correlation(
            table["entropy_nats"].to_numpy(), table["bit_flops_percent"].to_numpy()
        ),
    }


def headline(
    dynamic: Evaluation, fixed: Evaluation, control: Sequence[float], student: Student
) -> dict[str, Any]:
    """The figures that decide, in percent: both students, and the control that gives the same bits
    to other images.

    Without labels there is no top-1: networks are compared by how often they agree with the
    teacher, the control too.
    """
    table, labelled = dynamic.per_image, dynamic.top1 is not None
    score = "top1" if labelled else "agreement"
    metrics = {
        "teacher": {"bit_flops_percent": 100.0},
        "fixed": {
            "bit_flops_percent": fixed.bit_flops_percent,
            "bits": student.scheme.target_bits,
            "agreement": 100.0
            * float((fixed.per_image["prediction"] == table["teacher_prediction"]).mean()),
        },
        "student": {
            "bit_flops_percent": dynamic.bit_flops_percent,
            "bit_flops_percent_std": dynamic.bit_flops_percent_std,
            "mean_activation_bits": dynamic.mean_activation_bits,
            "agreement": 100.0 * float((table["prediction"] == table["teacher_prediction"]).mean()),
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
    return _with_labels(metrics, dynamic, fixed) if labelled else metrics


def _with_labels(metrics: dict[str, Any], dynamic: Evaluation, fixed: Evaluation) -> dict[str, Any]:
    """What labelled test images add."""
    table = dynamic.per_image
    right = 100.0 * float((table["teacher_prediction"] == table["label"]).mean())
    for name, top1 in (("teacher", right), ("fixed", fixed.top1), ("student", dynamic.top1)):
        metrics[name]["top1"] = top1
    rho = rank_correlation(table["entropy_nats"].to_numpy(), table["bit_flops_percent"].to_numpy())
    return metrics | {"entropy_bits_spearman": rho}
