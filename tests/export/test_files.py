"""The formats of stage ``export``: what is recorded of each file, and that the file depends on the
student alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from torch import Tensor

from dynadfq.export.config import Format
from dynadfq.export.files import FORMATS, require, write_file
from dynadfq.quant.model import Student

ROOT = Path(__file__).parents[2]
Build = Callable[..., Student]


def test_the_formats_are_those_of_the_parameter() -> None:
    assert tuple(FORMATS) == get_args(Format)


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_describes_its_file(
    make_student: Build, images: Tensor, tmp_path: Path, name: str
) -> None:
    student = make_student(8, scheme="integer") if name == "qdq" else make_student()
    record = write_file(student, name, tmp_path / "a", images[:8])
    content = (tmp_path / "a" / record["file"]).read_bytes()
    assert record["format"] == name and record["bytes"] == len(content)
    assert record["images_checked"] == 8 and record["worst_logit_difference"] == 0
    assert "torch" in record["versions"]
    floats = [line.startswith("conv1: float64") for line in record["not_integer"]]
    assert any(floats) or name == "qdq"
    write_file(student, name, tmp_path / "b", images[:8])
    assert (tmp_path / "b" / record["file"]).read_bytes() == content
    assert str(ROOT).encode() not in content


def test_what_is_missing_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    require([])
    require(["pt2"])
    with pytest.raises(
        ImportError, match=r"ONNX export needs onnxruntime: pip install onnxruntime"
    ):
        require(["pt2", "onnx-codes"])
