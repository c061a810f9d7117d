"""The content of ``metrics.json``; percentages run from 0 to 100.

Which keys exist depends on the data. Always: `method`, `fixed`, `student`, `teacher` and `control`
with `bit_flops_percent` (the first two with `agreement`), `quantization`, `budget_curve`,
`synthetic`, and `data.name`; where images choose their widths also `static` and `ceiling`. What the
student is compared with (`fixed`, `control`, `static`, `ceiling`) holds the comparison, image by
image: `difference` and `standard_error` in points of the student's score minus its own, and
`p_value` (``paired``); also `gained` and `lost`, except for several repeats of `control`.
`quantization.allocation` is "mixed" where layers or sites have widths of their own.

With labelled test images also every `top1`, `entropy_bits_spearman`, `data.test_images`, and, where
classes were matched, `data.class_order` (a sentence), `data.order_assumed`, and `data.class_names`
where the network has none. Without labelled images `data.name` is null, the synthetic images are
what is measured, and the controls and the budget curve count agreement with the teacher in place of
top-1.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.controls import Controls
from dynadfq.evaluation.correlation import rank_correlation
from dynadfq.evaluation.evaluate import Evaluation, percent_equal
from dynadfq.evaluation.paired import paired
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
    dynamic: Evaluation, fixed: Evaluation, controls: Controls, expected: Tensor, student: Student
) -> dict[str, Any]:
    """Compare teacher, both students, and the controls.

    Args:
        dynamic: the dynamic student's evaluation with the teacher.
        fixed: the fixed-width student's, on the same images.
        controls: the dynamic student's.
        expected: (N,) labels, or the teacher's predictions where images have no labels.
        student: the dynamic student.
    """
    table = dynamic.per_image
    score = "agreement" if dynamic.top1 is None else "top1"
    against = partial(_compared, score, expected, dynamic.predictions == expected)
    metrics: dict[str, Any] = {
        "method": student.provenance.get("method"),
        "teacher": {"bit_flops_percent": 100.0},
        "fixed": {
            **against(fixed.predictions, fixed.bit_flops_percent),
            "bits": student.scheme.target_bits,
            "mean_activation_bits": fixed.mean_activation_bits,
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
            **against(controls.permuted, dynamic.bit_flops_percent),
            "repeats": len(controls.permuted),
        },
        "quantization": {
            "allocation": "uniform" if student.scheme.mixed is None else "mixed",
            "weight_bits": student.scheme.weight_bits,
            "target_bits": student.scheme.target_bits,
            "activation_bits": list(student.scheme.activation_bits),
            "float_input_macs_percent": student.cost.float_input_macs_percent,
        },
    }
    for name, found in (("static", controls.static), ("ceiling", controls.ceiling)):
        if found is not None:
            cost = float(student.bit_flops_percent(found.bits).mean())
            bits = float(found.bits.mean())
            metrics[name] = against(found.classes, cost) | {"mean_activation_bits": bits}
    if dynamic.top1 is not None:
        metrics["teacher"]["top1"] = percent_equal(table["teacher_prediction"], table["label"])
        metrics["student"]["top1"] = dynamic.top1
        metrics["entropy_bits_spearman"] = entropy_cost_correlation(table)
    return metrics


def _compared(
    score: str, expected: Tensor, right: Tensor, classes: Tensor, bit_flops_percent: float
) -> dict[str, Any]:
    """Return cost and score of a control, and its comparison with the student.

    Args:
        score: "top1" or "agreement".
        expected: (N,) classes.
        right: (N,) whether the student's answers are.
        classes: (N,) of the control, or (R, N) of its repeats.
        bit_flops_percent: its cost.
    """
    scores = [percent_equal(one, expected) for one in classes.view(-1, len(expected))]
    metrics = {
        score: float(np.mean(scores)),
        "bit_flops_percent": bit_flops_percent,
    }
    compared = asdict(paired(right, classes == expected))
    metrics |= {name: value for name, value in compared.items() if value is not None}
    if classes.dim() > 1:
        metrics[f"{score}_std"] = float(np.std(scores))
    return metrics


def entropy_cost_correlation(table: pd.DataFrame) -> float | None:
    """Return Spearman's correlation of prediction entropy and bit-FLOPs over images."""
    return rank_correlation(table["entropy_nats"], table["bit_flops_percent"])
