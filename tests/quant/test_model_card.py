from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import MOST_NAMES, model_card, provenance

Build = Callable[..., Student]
METRICS = {
    "data": {"name": "digits", "test_images": 1234},
    "teacher": {"top1": 99.07, "bit_flops_percent": 100.0},
    "fixed": {"top1": 98.5, "bit_flops_percent": 2.5, "bits": 4, "agreement": 99.1},
    "student": {"top1": 98.75, "bit_flops_percent": 2.4321, "agreement": 99.25},
    "control": {"top1": 98.25, "top1_std": 0.1, "repeats": 5},
}


def test_the_card_is_saved_with_the_student_and_again_the_same(
    make_student: Build, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    student = make_student()
    student.provenance = provenance("dynadfq", 5120, 80000, "nearest")
    student.save(tmp_path / "a")
    loaded = load_student(tmp_path / "a", module=make_net())
    assert loaded.made == student.provenance
    loaded.save(tmp_path / "b")
    for name in ("card.md", "student.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    card = (tmp_path / "a/card.md").read_text()
    size = (tmp_path / "a/model.safetensors").stat().st_size
    for said in (
        "W4, A{3,4,5}", "chosen for each image", "Data-free: yes", "Method: dynadfq", "Images: 5,120", "80,000 steps",
        f"{size:,} bytes", "chosen at 3 of 4 sites", "multiplier 0, as trained", "pixels in 0 … 1 less 0.5, 0.4, 0.6",
        student.description["sha256"], "Stage `evaluate` measures it",
    ):  # fmt: skip
        assert said in card, said
    reach = f"{student.cost.at([5, 3, 3, 3]).percent:.3f} … {student.cost.at([5, 5, 5, 5]).percent:.3f} %"
    assert reach in card


def test_the_card_says_how_images_are_read_and_who_says_so(make_student: Build) -> None:
    student = make_student(4)
    assert "scaled (bilinear) so that they just cover the input" in model_card(student, 7)
    assert "Taken from" not in model_card(student, 7)
    student.description |= {
        "resize": 10,
        "interpolation": "bicubic",
        "origins": {"std": "params.yaml", "resize": "timm's metadata", "mean": "timm's metadata"},
    }
    card = model_card(student, 7)
    assert (
        "scaled (bicubic) so that they have 10 pixels on the shorter side, then the middle" in card
    )
    assert "Taken from: mean, resize: timm's metadata; std: params.yaml" in card


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            provenance("real_data", 10, 20, "nearest"),
            "Data-free: no: it was fine-tuned on labelled images",
        ),
        (provenance("squant", 10, 0, "squant"), "Fine-tuning: none"),
        (provenance("zeroq", 10, 20, "nearest") | {"data_free": None}, "Data-free: not recorded"),
        ({}, "Not fine-tuned, or not recorded"),
    ],
)
def test_the_card_says_how_and_whether_data_free(
    make_student: Build, how: dict[str, object], said: str
) -> None:
    student = make_student(4)
    student.provenance = how
    card = model_card(student, 7)
    assert said in card and "the same for all images" in card and "CostCurve" not in card


def test_measured_results_are_a_table(make_student: Build) -> None:
    card = model_card(make_student(), 7, METRICS)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert "1,234 test images of digits" in card and "Stage `evaluate`" not in card
    assert rows[2:] == [
        "| float | 99.07 | 100.000 | – |",
        "| fixed width, 4 bits | 98.50 | 2.500 | 99.10 |",
        "| this student | 98.75 | 2.432 | 99.25 |",
        "| its bits handed to other images | 98.25 | 2.432 | – |",
    ]


def test_many_class_names_are_cut(make_student: Build) -> None:
    student = make_student()
    student.description["class_names"] = [f"name{i}" for i in range(1000)]
    card = model_card(student, 7)
    assert f"name{MOST_NAMES - 1} and 980 more" in card and f"name{MOST_NAMES}," not in card


def test_a_student_saved_before_there_were_cards_is_read(
    make_student: Build, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    make_student().save(tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    del card["provenance"]
    (tmp_path / "student.json").write_text(json.dumps(card))
    assert load_student(tmp_path, module=make_net()).made == {}
