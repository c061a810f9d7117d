from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadfq.evaluation.budget_curve import (
    budget_metrics,
    budget_table,
    columns,
    keeping_multiplier,
)
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet

LABELS = torch.arange(256) % 6


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


def test_a_row_is_an_evaluation_at_its_multiplier(
    student: Student, synthetic: SyntheticSet, images: Tensor
) -> None:
    student.multiplier = 1.5
    table = budget_table(student, synthetic, images.split(100), LABELS, 8, 0, 64)
    assert student.multiplier == 1.5
    assert list(table.columns) == columns("top1") and len(table) == 8
    np.testing.assert_allclose(table["budget"].diff()[1:], table["budget"].diff()[1])
    assert table["multiplier"].is_monotonic_decreasing
    assert table["bit_flops_percent"].is_monotonic_increasing
    assert (table["synthetic_bit_flops_percent"] <= table["budget"] + 1e-8).all()
    for row in (table.iloc[2], table.iloc[5]):
        student.multiplier = row["multiplier"]
        result = evaluate(student, zip(images.split(64), LABELS.split(64), strict=True))
        assert row["top1"] == pytest.approx(result.top1)
        assert row["bit_flops_percent"] == pytest.approx(result.bit_flops_percent)
        assert row["mean_bits"] == pytest.approx(result.mean_activation_bits, abs=1e-5)


def test_the_control_differs_only_where_images_have_different_bits(
    student: Student, synthetic: SyntheticSet
) -> None:
    images = synthetic.take(torch.arange(24)).images
    table = budget_table(student, synthetic, images.split(10), LABELS[:24], 5, 0, 64)
    assert table["allocations"].iloc[[0, -1]].tolist() == [1, 1]
    assert (table["allocations"].iloc[1:-1] > 1).all()
    assert (table["control_top1"] == table["top1"]).iloc[[0, -1]].all()
    gain = 100 * (table["gained"] - table["lost"]) / 24
    np.testing.assert_allclose(table["top1"] - table["control_top1"], gain, atol=1e-9)
    assert (table["gained"] + table["lost"]).iloc[1:-1].sum() > 0
    metrics = budget_metrics(table)
    assert metrics["gain_over_control"] == pytest.approx(gain.iloc[1:-1].mean())
    assert metrics["lowest_bit_flops_percent"] == table["bit_flops_percent"].iloc[0]
    assert metrics["budgets"] == 5


def test_the_seed_affects_the_control_alone(
    student: Student, synthetic: SyntheticSet, images: Tensor
) -> None:
    first, again, other = (
        budget_table(student, synthetic, [images], LABELS, 3, seed, 64) for seed in (0, 0, 1)
    )
    assert first.equals(again)
    random = ["control_top1", "gained", "lost"]
    assert first.drop(columns=random).equals(other.drop(columns=random))
    assert not first[random].equals(other[random])


@pytest.mark.parametrize(("widths", "budgets"), [((3, 4, 5), 0), ((4,), 3)])
def test_no_budgets_or_a_fixed_width_are_an_empty_table(
    make_student: Callable[..., Student],
    synthetic: SyntheticSet,
    images: Tensor,
    widths: tuple[int, ...],
    budgets: int,
) -> None:
    table = budget_table(make_student(*widths), synthetic, [images], LABELS, budgets, 0, 64)
    assert list(table.columns) == columns("top1") and table.empty
    metrics = budget_metrics(table)
    assert metrics.pop("budgets") == 0 and set(metrics.values()) == {None}


def test_the_multiplier_is_restored_after_an_exception(student: Student) -> None:
    with pytest.raises(RuntimeError), keeping_multiplier(student):
        student.multiplier = 9.0
        raise RuntimeError
    assert student.multiplier == 0.0
