"""What an exported file says of how images are prepared for it, and that it says nothing of the
machine."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from dynadfq.api import quantize
from dynadfq.export.onnx_export import export_onnx
from dynadfq.export.program import described, export_program
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

WHERE = "/home/somebody/secret/net.pt"


def of_onnx(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(
        {entry.key: entry.value for entry in onnx.load(path).metadata_props}["dynadfq"]
    )
    return read


def of_program(path: Path) -> dict[str, Any]:
    extra = {"dynadfq.json": ""}
    torch.export.load(path, extra_files=extra)
    read: dict[str, Any] = json.loads(extra["dynadfq.json"])
    return read


@pytest.fixture
def student(make_net: Callable[[], nn.Module], images: Tensor) -> Student:
    teacher = Teacher(
        make_net(),
        (3, 8, 8),
        6,
        (0.5, 0.4, 0.6),
        (0.2, 0.3, 0.25),
        source=WHERE,
        resize=10,
        interpolation="bicubic",
    )
    student = quantize(teacher, activation_bits=(3, 4, 5))
    calibrate(student, [images], extremes)
    student.multiplier = 0.25
    return student


@pytest.mark.parametrize(("export", "read"), [(export_onnx, of_onnx), (export_program, of_program)])
def test_a_file_says_how_images_are_prepared(
    student: Student,
    images: Tensor,
    tmp_path: Path,
    export: Callable[..., object],
    read: Callable[..., dict[str, Any]],
) -> None:
    export(student, tmp_path / "model", images[:4])
    facts = read(tmp_path / "model")
    assert facts["resize"] == 10 and facts["interpolation"] == "bicubic"
    assert Preprocessing.of(facts) == student.preprocessing
    assert facts["source"] == "net.pt" and WHERE.encode() not in (tmp_path / "model").read_bytes()
    assert facts["class_names"] == list("012345") and facts["activation_bits"] == [3, 4, 5]


def test_a_program_has_the_multiplier_of_its_student(
    student: Student, images: Tensor, tmp_path: Path
) -> None:
    for name in ("a.pt2", "b.pt2"):
        export_program(student, tmp_path / name, images[:4])
    facts = of_program(tmp_path / "a.pt2")
    assert facts == described(student) | {"multiplier": 0.25}
    assert (tmp_path / "a.pt2").read_bytes() == (tmp_path / "b.pt2").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:  # readers without torch
        assert json.loads(archive.read("archive/extra/dynadfq.json")) == facts


def test_a_description_of_before_interpolation_is_bilinear(student: Student) -> None:
    for key in ("resize", "interpolation"):
        del student.description[key]
    assert (
        described(student)["interpolation"] == "bilinear" and described(student)["resize"] is None
    )
