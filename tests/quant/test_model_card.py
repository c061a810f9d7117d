from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynadfq.api.student import quantize
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import MOST_NAMES, model_card, provenance
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
METRICS = {
    "data": {"name": "digits", "test_images": 1234},
    "teacher": {"top1": 99.07, "bit_flops_percent": 100.0},
    "fixed": {"top1": 98.5, "bit_flops_percent": 2.5, "bits": 4, "agreement": 99.1},
    "student": {"top1": 98.75, "bit_flops_percent": 2.4321, "agreement": 99.25},
    "control": {"top1": 98.25, "top1_std": 0.1, "repeats": 5, "bit_flops_percent": 2.432},
    "static": {"top1": 98.3, "bit_flops_percent": 2.44},
    "ceiling": {"top1": 98.9, "bit_flops_percent": 2.433},
}


def card_of(student: Student, measured: dict[str, Any] | None = None) -> str:
    return model_card({**student.describe(), "bytes": 7}, measured)


def test_the_card_has_the_facts_of_a_student(make_student: Build) -> None:
    student = make_student()
    student.provenance = provenance("dynadfq", True, 5120, 80000, "nearest")
    card = card_of(student)
    lowest = student.cost.at([5, 3, 3, 3]).percent
    highest = student.cost.at([5, 5, 5, 5]).percent
    for text in (
        "W4, A{3,4,5}",
        "chosen for each image",
        "Data-free: yes",
        "Method: dynadfq",
        "Images: 5,120",
        "80,000 steps",
        ": 7 bytes",
        "chosen at 3 of 4 sites",
        f"{lowest:.3f} … {highest:.3f} %",
        "Lagrange multiplier: 0 nats per percentage point of bit-FLOPs (as trained)",
        "mean 0.5, 0.4, 0.6",
        student.description["sha256"],
        "Not measured. `dynadfq evaluate --card`",
    ):
        assert text in card, text


def test_the_card_states_preprocessing_and_its_origin(make_student: Build) -> None:
    student = make_student(4)
    assert "scaled (bilinear) to just cover the input" in card_of(student)
    assert "Origin of" not in card_of(student)
    student.description |= {
        "resize": 10,
        "interpolation": "bicubic",
        "origins": {"std": "params.yaml", "resize": "timm's metadata", "mean": "timm's metadata"},
    }
    card = card_of(student)
    assert "scaled (bicubic) to 10 pixels on the shorter side, then center-cropped" in card
    assert "mean: timm's metadata; resize: timm's metadata; std: params.yaml" in card


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (provenance("real_data", False, 10, 20, "nearest"), "Data-free: no: it was fine-tuned on"),
        (provenance("squant", True, 10, 0, "squant"), "Fine-tuning: none"),
        (provenance("squant", True, 0, 0, "squant"), "Images: none"),
        (provenance("squant", True, 10, 0, "squant"), "yes: no image of a data set was read"),
        (provenance("zeroq", None, 10, 20, "nearest"), "Data-free: not recorded"),
        ({}, "Fine-tuning: none, or not recorded"),
    ],
)
def test_the_card_states_training_and_whether_it_is_data_free(
    make_student: Build, how: dict[str, object], text: str
) -> None:
    student = make_student(4)
    student.provenance = how
    card = card_of(student)
    assert text in card
    assert "the same for all images" in card
    assert "multiplier" not in card


def test_measured_results_are_a_table(make_student: Build) -> None:
    card = card_of(make_student(), METRICS)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert "1,234 test images of digits" in card
    assert "Stage `evaluate`" not in card
    assert rows[2:] == [
        "| float | 99.07 | 100.000 | – |",
        "| fixed width, 4 bits | 98.50 | 2.500 | 99.10 |",
        "| this student | 98.75 | 2.432 | 99.25 |",
        "| control: its bits given to other images | 98.25 | 2.432 | – |",
        "| control: one allocation for all images | 98.30 | 2.440 | – |",
        "| bound: bits by its own margin at the lowest width | 98.90 | 2.433 | – |",
    ]


def test_many_class_names_are_cut(make_student: Build) -> None:
    student = make_student()
    student.description["class_names"] = [f"name{i}" for i in range(1000)]
    card = card_of(student)
    assert f"name{MOST_NAMES - 1} and 980 more" in card
    assert f"name{MOST_NAMES}," not in card


@pytest.mark.parametrize("bits", [3, 8])
def test_the_selectors_weights_are_none_of_the_networks(teacher: Teacher, bits: int) -> None:
    card = card_of(quantize(teacher, weight_bits=bits, activation_bits=(3, 4, 5)))
    assert f", W{bits}, A{{3,4,5}}" in card.splitlines()[0]
    assert f"Weights: {bits} bits, one scale per" in card


def test_a_student_that_was_not_fine_tuned_is_called_so(make_student: Build) -> None:
    student = make_student(4)
    for how, text in (
        ({}, "of digits, not fine-tuned"),
        (provenance("squant", True, 10, 0, "squant"), "of digits, not fine-tuned"),
        (provenance("zeroq", True, 10, 20, "nearest"), "of digits, after the last step of fine-t"),
    ):
        student.provenance = how
        assert text in card_of(student, METRICS)
