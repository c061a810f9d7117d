from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dynadfq.ptq import preparation as preparing
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.preparation import rounding
from dynadfq.quant.config import QuantizationConfig, Rounding
from dynadfq.quant.model import Student
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.runtime.config import choices
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def test_the_names_are_those_of_the_parameter() -> None:
    names = choices(QuantizationConfig.model_fields["rounding"])
    parts = [rounding(QuantizationConfig(rounding=name)) for name in names]
    assert [name for name, preparations in zip(names, parts, strict=True) if not preparations] == [
        "nearest"
    ]
    assert len({repr(preparations) for preparations in parts}) == len(names)


@pytest.mark.parametrize("name", choices(QuantizationConfig.model_fields["rounding"])[1:])
@pytest.mark.parametrize(
    "scheme", [{}, {"ranges": "per_width"}, {"placement": "layer_input"}], ids=str
)
def test_a_dynamic_student_is_rounded_once_for_all_widths(
    make_student: Callable[..., Student],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    name: Rounding,
    scheme: dict[str, Any],
) -> None:
    fast: dict[str, Any] = {"iterations": 4, "batch_size": 8, "num_images": 8}
    monkeypatch.setattr(preparing, "AdaRoundConfig", lambda: AdaRoundConfig(**fast))
    quantization = QuantizationConfig(
        rounding=name, reconstruction=BlockReconstructionConfig(**fast)
    )
    student = make_student(**scheme)
    logits = student(images)
    for preparation in rounding(quantization):
        preparation(student, teacher, synthetic, 0, Scratch(None))
    rounded, used = student.run(images)
    assert not rounded.equal(logits)
    assert all(torch.equal(layer.quantized_weight, layer.weight) for layer in student.layers)
    assert len(used.unique(dim=0)) > 5
    student.train()(images).square().mean().backward()
    for layer in student.layers:
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
