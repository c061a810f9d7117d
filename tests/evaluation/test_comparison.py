"""The whole evaluation, with labelled test images and without."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation import comparison
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.evaluation.record import Metrics
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.model import Student
from dynadfq.runtime.artifact import record_bytes
from dynadfq.runtime.progress import Progress
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

LABEL_TABLES = {"confusion", "co_occurrence"}


@pytest.mark.parametrize("labelled", [True, False])
def test_everything_is_measured_in_the_announced_passes(
    labelled: bool,
    monkeypatch: pytest.MonkeyPatch,
    make_student: Callable[..., Student],
    teacher: Teacher,
    synthetic: SyntheticSet,
) -> None:
    bars: list[Progress] = []

    def progress(*args: object, **options: object) -> Progress:
        bars.append(Progress(*args, **options))  # type: ignore[arg-type]
        return bars[-1]

    monkeypatch.setattr(comparison, "Progress", progress)
    pixels = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8)
    preprocessing = Preprocessing((3, 8, 8), (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))
    labels: Tensor = torch.arange(24) % 6
    config = EvaluationConfig(batch_size=10, control_repeats=2, sensitivity_bits=(4, 5), budgets=3)
    metrics, tables = comparison.compare(
        make_student(),
        make_student(4),
        teacher,
        synthetic,
        LabelledSet(preprocessing, pixels, labels) if labelled else None,
        "some" if labelled else None,
        config,
        seed=0,
    )
    [bar] = bars
    assert bar.total == 3 * (2 + 3 + 3 + 6)  # two students, controls, uniform widths, budgets
    # The control of the cheapest and the dearest budget is the student itself.
    assert bar.done == bar.total - 3 * 2
    assert (set(tables) & LABEL_TABLES == LABEL_TABLES) is labelled
    assert all(len(tables[name]) == 24 for name in ("per_image", "synthetic_per_image"))
    assert ("top1" in metrics["student"]) is labelled
    assert record_bytes(metrics, Metrics)
    for name in ("fixed", "control", "static", "ceiling"):
        other = metrics[name]
        score = "top1" if labelled else "agreement"
        assert metrics["student"][score] - other[score] == pytest.approx(other["difference"])
    assert metrics["budget_curve"]["budgets"] == len(tables["budget_curve"]) == 3
    assert "NaN" not in json.dumps(metrics)
    assert metrics["data"]["name"] == ("some" if labelled else None)


def test_without_sensitivity_bits_no_width_is_the_lowest(
    make_student: Callable[..., Student], teacher: Teacher, synthetic: SyntheticSet
) -> None:
    config = EvaluationConfig(batch_size=24, control_repeats=1, sensitivity_bits=(), budgets=0)
    student = make_student(4)
    _, tables = comparison.compare(student, student, teacher, synthetic, None, None, config, 0)
    assert tables["per_image"]["lowest_bits"].eq(0).all()
