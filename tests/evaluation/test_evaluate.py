from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynadfq.evaluation.controls import Controls
from dynadfq.evaluation.correlation import linear_correlation, rank_correlation
from dynadfq.evaluation.evaluate import evaluate, percent_equal, predict
from dynadfq.evaluation.metrics import headline
from dynadfq.evaluation.tables import (
    co_occurrence_table,
    confusion_table,
    per_image_table,
    site_table,
    synthetic_table,
)
from dynadfq.evaluation.teacher_statistics import TeacherObserver
from dynadfq.losses.objective import prediction_entropy
from dynadfq.quant.bits import uniform
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.model import Student
from dynadfq.quant.width_config import MixedWidths
from dynadfq.report.tables import mean_site_bits
from dynadfq.report.verdict import varying_sites
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

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
    predicted = logits.argmax(dim=1)
    assert table["prediction"].tolist() == result.predictions.tolist() == predicted.tolist()
    assert table["label"].tolist() == LABELS.tolist()
    assert result.top1 == pytest.approx(100 * (predicted == LABELS).double().mean().item())
    np.testing.assert_allclose(table["bit_flops_percent"], percent)
    np.testing.assert_allclose(table["mean_bits"], bits.mean(dim=1))
    assert result.bit_flops_percent == pytest.approx(percent.mean().item())
    assert result.bit_flops_percent_std == pytest.approx(percent.std(correction=0).item())
    assert result.bit_flops_percent_std > 0
    assert result.mean_activation_bits == pytest.approx(bits.mean().item())
    entropy = prediction_entropy(teacher(images).double())
    np.testing.assert_allclose(table["entropy_nats"], entropy, atol=1e-5)
    assert table["teacher_prediction"].tolist() == teacher(images).argmax(dim=1).tolist()
    assert "entropy_nats" not in evaluate(student, batches(images)).per_image


def test_batches_do_not_matter(student: Student, images: Tensor) -> None:
    results = [evaluate(student, batches(images, size)).per_image for size in (1, 100)]
    assert results[0].equals(results[1])


def test_sums_over_images_do_not_depend_on_their_order() -> None:
    logits = 3 * torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 8, bias=False))
    nn.init.eye_(network[1].weight)
    teacher = Teacher(network, (8, 1, 1), 8, [0.0] * 8, [1.0] * 8)

    def counted(rows: Tensor, size: int) -> Tensor:
        observer = TeacherObserver(teacher)
        seen = [observer.observe(part.view(-1, 8, 1, 1)) for part in rows.split(size)]
        return observer.statistics(seen).co_occurrence

    expected = counted(logits, 300)
    assert torch.equal(counted(logits.flip(0), 7), expected)
    p = logits.double().softmax(dim=1)
    torch.testing.assert_close(expected, p.T @ p / 300, rtol=0, atol=1e-6)


def test_predictions_with_given_allocations(student: Student, images: Tensor) -> None:
    bits = torch.tensor([3.0, 5.0, 4.0])[torch.arange(256) % 3, None].expand(-1, 4)
    found = predict(student, images.split(100), bits)
    assert torch.equal(found.bits, bits)
    for place in (0, 100, 200):
        alone = predict(student, [images[place : place + 1]], uniform(int(bits[place, 0]), 4))
        assert alone.classes == found.classes[place]


def test_batches_are_read_once_and_not_kept(
    student: Student, teacher: Teacher, images: Tensor
) -> None:
    """When a batch is asked for, the one before the last has been freed."""
    alive: list[weakref.ref[Tensor]] = []

    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for batch, labels in batches(images, 32):
            assert sum(one() is not None for one in alive) <= 1
            batch = batch.clone()
            alive.append(weakref.ref(batch))
            yield batch, labels

    found = evaluate(student, read(), teacher)
    assert len(alive) == 8
    assert found.per_image.equals(evaluate(student, batches(images, 32), teacher).per_image)


def test_a_student_that_was_never_calibrated_is_warned_of(
    student: Student, teacher: Teacher, images: Tensor, tmp_path: Path
) -> None:
    fresh = build_student(teacher, student.scheme)
    fresh.save(tmp_path)  # the ranges alone tell
    for uncalibrated in (fresh, load_student(tmp_path, teacher.module)):
        with pytest.warns(UserWarning, match=r"never set, .*; calibrate it first"):
            evaluate(uncalibrated, batches(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(student, batches(images))


def test_without_labels_all_but_top1_is_the_same(
    student: Student, teacher: Teacher, images: Tensor
) -> None:
    labelled = evaluate(student, batches(images), teacher)
    bare = evaluate(student, ((batch, None) for batch, _ in batches(images)), teacher)
    assert bare.top1 is None and bare.per_image["label"].isna().all()
    assert bare.per_image.drop(columns="label").equals(labelled.per_image.drop(columns="label"))
    assert bare.teacher is not None
    with_labels, without = (
        headline(one, one, Controls(one.predictions[None]), expected, student)
        for one, expected in ((labelled, LABELS), (bare, bare.teacher.predictions))
    )
    assert "top1" not in json.dumps(without) and "entropy_bits_spearman" not in without
    assert without["control"]["agreement"] == without["student"]["agreement"]
    assert without["fixed"]["difference"] == 0.0 and "static" not in without
    for group in ("student", "quantization"):
        assert without[group].items() <= with_labels[group].items()
    table = per_image_table(bare, bare, torch.zeros(256, dtype=torch.int64))
    assert list(table.columns) == list(
        per_image_table(labelled, labelled, torch.zeros(256, dtype=torch.int64)).columns
    )


def test_small_figures() -> None:
    assert percent_equal(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 75
    assert rank_correlation(
        np.array([1.0, 2.0, 3.0]), np.array([1.0, 20.0, 400.0])
    ) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 2.0])) == pytest.approx(
        -np.sqrt(3) / 2
    )
    assert rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert rank_correlation(np.array([1.0]), np.array([1.0])) is None
    assert linear_correlation(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None


def test_confusion_counts_pairs() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    table = confusion_table(
        labels, {"teacher": torch.tensor([0, 1, 1, 2]), "student": torch.tensor([0, 0, 0, 0])}, 3
    )
    assert len(table) == 6  # (1, 2), (2, 1) and (0, 2) do not occur in either
    counts = table.set_index(["label", "prediction"])
    assert counts.loc[(0, 1)].tolist() == [1, 0] and counts.loc[(0, 0)].tolist() == [1, 2]
    assert counts.sum().tolist() == [4, 4]


def test_confusion_of_a_thousand_classes_has_no_more_rows_than_images() -> None:
    labels, guesses = torch.randint(0, 1000, (2, 500), generator=torch.Generator().manual_seed(0))
    table = confusion_table(labels, {"teacher": labels, "student": guesses}, 1000)
    assert 500 < len(table) <= 1000 and table[["teacher", "student"]].sum().tolist() == [500, 500]


def test_co_occurrence_is_a_mean_of_products(
    student: Student, teacher: Teacher, images: Tensor
) -> None:
    matrix = torch.tensor([[9.0, 0.08, 0.3], [0.08, 9.0, 0.07], [0.3, 0.07, 9.0]])
    table = co_occurrence_table(matrix).set_index(["class_a", "class_b"])["value"]
    assert table.to_dict() == pytest.approx({(0, 1): 0.08, (0, 2): 0.3, (1, 2): 0.07})
    seen = evaluate(student, batches(images), teacher).teacher
    assert seen is not None
    p = teacher(images).double().softmax(dim=1)
    torch.testing.assert_close(seen.co_occurrence, p.T @ p / 256, rtol=0, atol=1e-6)


def test_tables_of_sites_and_synthetic_images(
    student: Student,
    make_student: Callable[..., Student],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
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


@pytest.mark.parametrize(
    "scheme",
    [
        {"scheme": "integer"},
        {"mixed": MixedWidths(activations={"relu_1": 3, "relu_2": 6})},
    ],
)
def test_shares_of_widths_that_are_no_candidates_are_in_the_table(
    make_student: Callable[..., Student], images: Tensor, scheme: dict[str, Any]
) -> None:
    student = make_student(4, **scheme)
    _, bits = student.run(images)
    sites = site_table(student, student, bits)
    np.testing.assert_allclose(mean_site_bits(sites), bits[0])
    assert varying_sites(sites) == 0


def test_the_headline_is_in_percent(
    student: Student, make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    dynamic, fixed = (evaluate(s, batches(images), teacher) for s in (student, make_student(4)))
    repeats = torch.stack([LABELS, 5 - LABELS])
    figures = headline(dynamic, fixed, Controls(repeats), LABELS, student)
    assert figures["student"]["top1"] == dynamic.top1 and figures["fixed"]["bits"] == 4
    agreement = (dynamic.per_image["prediction"] == dynamic.per_image["teacher_prediction"]).mean()
    assert figures["student"]["agreement"] == pytest.approx(100 * agreement)
    assert dynamic.top1 is not None and fixed.top1 is not None
    control = figures["control"]
    assert control["top1"] == 50.0 and control["top1_std"] == 50.0 and control["repeats"] == 2
    assert control["difference"] == pytest.approx(dynamic.top1 - 50.0)
    assert figures["fixed"]["difference"] == pytest.approx(dynamic.top1 - fixed.top1)
    assert figures["quantization"]["activation_bits"] == [3, 4, 5]
    right = (teacher(images).argmax(dim=1) == LABELS).double().mean().item()
    assert figures["teacher"] == {"top1": pytest.approx(100 * right), "bit_flops_percent": 100.0}
