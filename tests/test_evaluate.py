from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadfq.evaluation import (
    answer,
    evaluate,
    lowest_surviving_bits,
    percent_equal,
    rank_correlation,
    shuffled_control,
)
from dynadfq.losses import prediction_entropy
from dynadfq.measure import co_occurrence_table, confusion_table, headline, site_table, synthetic_table
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher import Teacher

LABELS = torch.arange(256) % 6


def batches(images: Tensor, size: int = 100) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(size), LABELS.split(size), strict=True))


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


def test_evaluation_by_hand(student: Student, teacher: Teacher, images: Tensor) -> None:
    student.train()
    result = evaluate(student, batches(images), teacher)
    logits, bits = student.eval().run(images)
    percent = student.cost.percent(bits)
    table = result.per_image
    assert table["prediction"].tolist() == logits.argmax(dim=1).tolist() and table["label"].tolist() == LABELS.tolist()
    assert result.top1 == pytest.approx(100 * (logits.argmax(dim=1) == LABELS).double().mean().item())
    np.testing.assert_allclose(table["bit_flops_percent"], percent)
    np.testing.assert_allclose(table["mean_bits"], bits.mean(dim=1))
    assert result.bit_flops_percent == pytest.approx(percent.mean().item())
    assert result.bit_flops_percent_std == pytest.approx(percent.std(correction=0).item()) and percent.std() > 0
    assert result.mean_activation_bits == pytest.approx(bits.mean().item())
    np.testing.assert_allclose(table["entropy_nats"], prediction_entropy(teacher(images).double()), atol=1e-5)
    assert table["teacher_prediction"].tolist() == teacher(images).argmax(dim=1).tolist()
    assert "entropy_nats" not in evaluate(student, batches(images)).per_image


def test_batches_do_not_matter(student: Student, images: Tensor) -> None:
    results = [evaluate(student, batches(images, size)).per_image for size in (1, 100)]
    assert results[0].equals(results[1])


def test_the_control_spends_the_same_on_other_images(student: Student, images: Tensor) -> None:
    _, bits = student.run(images)
    before, rng = bits.clone(), torch.Generator().manual_seed(0)
    answers = shuffled_control(student, images.split(100), bits, rng)
    assert torch.equal(bits, before) and not torch.equal(answers.bits, bits)
    assert sorted(answers.bits.tolist()) == sorted(bits.tolist())
    assert student.bit_flops_percent(answers.bits).mean().item() == pytest.approx(
        student.bit_flops_percent(bits).mean().item()
    )
    expected = [student.run(images[i : i + 1], BitAllocation(answers.bits[i : i + 1]))[0].argmax() for i in range(30)]
    assert answers.predictions[:30].tolist() == [int(p) for p in expected]
    assert not torch.equal(shuffled_control(student, images.split(100), bits, rng).bits, answers.bits)


def test_lowest_surviving_bits_by_definition(student: Student, teacher: Teacher, images: Tensor) -> None:
    widths, expected = (2, 3, 4, 6), teacher(images).argmax(dim=1)
    right = {w: student.run(images, uniform(w, 4))[0].argmax(dim=1) == expected for w in widths}
    by_definition = [
        min((w for w in widths if all(right[v][i] for v in widths if v >= w)), default=0) for i in range(len(images))
    ]
    measured = lowest_surviving_bits(student, images.split(100), expected, (4, 2, 6, 3))
    assert measured.tolist() == by_definition
    assert len(set(by_definition)) >= 3


def test_answers_with_given_allocations(student: Student, images: Tensor) -> None:
    allocations = (uniform(width, 4) for width in (3, 5, 4))
    answers = answer(student, images.split(100), allocations)
    assert answers.bits.shape == (256, 4)
    assert [answers.bits[i, 0].item() for i in (0, 100, 200)] == [3, 5, 4]


def test_small_figures() -> None:
    assert percent_equal(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 75
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 20.0, 400.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 2.0])) == pytest.approx(-np.sqrt(3) / 2)
    assert rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert rank_correlation(np.array([1.0]), np.array([1.0])) is None


def test_confusion_counts_pairs() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    table = confusion_table(labels, {"teacher": torch.tensor([0, 1, 1, 2]), "student": torch.tensor([0, 0, 0, 0])}, 3)
    assert len(table) == 9
    counts = table.set_index(["label", "prediction"])
    assert counts.loc[(0, 1)].tolist() == [1, 0] and counts.loc[(0, 0)].tolist() == [1, 2]
    assert counts.sum().tolist() == [4, 4]


def test_co_occurrence_is_a_mean_of_products() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    table = co_occurrence_table(p.log()).set_index(["class_a", "class_b"])["value"]
    assert len(table) == 6
    assert table[(0, 1)] == pytest.approx((0.15 + 0.01) / 2) == table[(1, 0)]
    assert table[(1, 2)] == pytest.approx((0.06 + 0.08) / 2)


def test_tables_of_sites_and_synthetic_images(
    student: Student, make_student: Callable[..., Student], teacher: Teacher, synthetic: SyntheticSet, images: Tensor
) -> None:
    _, bits = student.run(images)
    sites = site_table(student, make_student(4), bits)
    assert sites["name"].tolist() == list(student.site_names)
    np.testing.assert_allclose(sites[["bits_3", "bits_4", "bits_5"]].sum(axis=1), 100)
    assert sites["bits_5"][0] == 100
    by_layer = {layer.name: layer.macs for layer in student.cost.trace.layers}
    assert sites["macs"].tolist() == [by_layer["conv2"], by_layer["conv3"], by_layer["conv4"], 0]
    table = synthetic_table(student, teacher, synthetic, 7)
    assert len(table) == 24 and (table["soft"] == (table["label_entropy_nats"] > 0)).all()
    assert 0 < table["soft"].sum() < 24


def test_the_headline_is_in_percent(
    student: Student, make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    dynamic, fixed = (evaluate(s, batches(images), teacher) for s in (student, make_student(4)))
    figures = headline(dynamic, fixed, [50.0, 52.0], student)
    assert figures["student"]["top1"] == dynamic.top1 and figures["fixed"]["bits"] == 4
    agreement = (dynamic.per_image["prediction"] == dynamic.per_image["teacher_prediction"]).mean()
    assert figures["student"]["agreement"] == pytest.approx(100 * agreement)
    assert figures["control"] == {"top1": 51.0, "top1_std": 1.0, "repeats": 2}
    assert figures["quantization"]["activation_bits"] == [3, 4, 5]
    right = (teacher(images).argmax(dim=1) == LABELS).double().mean().item()
    assert figures["teacher"] == {"top1": pytest.approx(100 * right), "bit_flops_percent": 100.0}
