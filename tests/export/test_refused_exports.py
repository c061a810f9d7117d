"""What no export is made of: images of another shape, and logits that are no numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadfq.export import onnx_export
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import export_onnx
from dynadfq.export.program import export_program
from dynadfq.quant.model import Student

Build = Callable[..., Student]
EXPORTERS = pytest.mark.parametrize("export", [export_onnx, export_program])


@EXPORTERS
@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 4), (1, 8, 8), (4, 8, 8), (8, 8)])
def test_images_of_another_shape(
    make_student: Build, tmp_path: Path, export: Callable[..., object], shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"images: of shape {(2, *shape)}, but the network reads float32 of shape (B, 3, 8, 8)"
        ),
    ):
        export(make_student(4), tmp_path / "model", torch.zeros(2, *shape))
    assert not list(tmp_path.iterdir())


@EXPORTERS
@pytest.mark.parametrize("bits", [(4,), (3, 4, 5)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_student_whose_logits_are_no_numbers(
    make_student: Build,
    images: Tensor,
    tmp_path: Path,
    export: Callable[..., object],
    bits: tuple[int],
    value: float,
) -> None:
    student = make_student(*bits)
    with torch.no_grad():
        student.layers[-1].bias[1] = value  # type: ignore[index]
    with pytest.raises(
        ArithmeticError, match="the student's own logits are NaN or infinite; not written: look for"
    ):
        export(student, tmp_path / "model", images[:4])
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_nan_to_any_batch(
    make_student: Build, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = make_student(4)
    content = onnx_export.onnx_model(to_integer_form(student), student)
    session = onnx_export.onnx_session(content)
    monkeypatch.setattr(onnx_export, "onnx_model", lambda *_: content)
    for broken in range(3):
        batches = iter(range(3))

        def run(*arguments: Any, broken: int = broken, batches: Iterator[int] = batches) -> Any:
            logits, bits = session.run(*arguments)
            return [np.where(next(batches) == broken, np.nan, logits).astype(np.float32), bits]

        monkeypatch.setattr(
            onnx_export, "onnx_session", lambda _, run=run: SimpleNamespace(run=run)
        )
        with pytest.raises(
            ArithmeticError, match="onnxruntime's logits are NaN or infinite; not written"
        ):
            export_onnx(student, tmp_path / "model.onnx", images[: onnx_export.CHECK_BATCH + 1])
        assert list(batches) == list(range(broken + 1, 3)) and not list(tmp_path.iterdir())
