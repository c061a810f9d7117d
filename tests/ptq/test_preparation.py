from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq import preparation as preparing
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.preparation import rounding
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.config import QuantizationConfig, Rounding, Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.quant.width_config import MixedWidths
from dynadfq.runtime.config import choices
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rounding], QuantizationConfig]:
    """Settings of a rounding that learns in a few steps, if it learns."""
    fast: dict[str, Any] = {"iterations": 4, "batch_size": 8, "num_images": 8}
    monkeypatch.setattr(preparing, "AdaRoundConfig", lambda: AdaRoundConfig(**fast))
    reconstruction = BlockReconstructionConfig(**fast)
    return lambda name: QuantizationConfig(rounding=name, reconstruction=reconstruction)


def test_the_names_are_those_of_the_parameter() -> None:
    names = choices(QuantizationConfig.model_fields["rounding"])
    parts = [rounding(QuantizationConfig(rounding=name)) for name in names]
    assert [name for name, preparations in zip(names, parts, strict=True) if not preparations] == [
        "nearest"
    ]
    assert len({repr(preparations) for preparations in parts}) == len(names)


class Tied(nn.Module):
    """Two convolutions and two linear layers that share weights and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 4, 1), nn.ReLU()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.two.weight = self.one.weight
        self.left, self.right = nn.Linear(256, 6), nn.Linear(256, 6)
        self.right.weight, self.right.bias = self.left.weight, self.left.bias

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.one(self.relu(self.stem(images))))
        y = self.relu(self.two(x))
        logits: Tensor = self.left(x.flatten(1)) + self.right(y.flatten(1))
        return logits


@pytest.mark.parametrize("name", choices(QuantizationConfig.model_fields["rounding"]))
@pytest.mark.parametrize("weights", [{}, {"two": 8, "right": 2}], ids=str)
def test_layers_of_one_weight_are_rounded_each_for_itself(
    synthetic: SyntheticSet,
    images: Tensor,
    quick: Callable[[Rounding], QuantizationConfig],
    tmp_path: Path,
    name: Rounding,
    weights: dict[str, int],
) -> None:
    teacher = Teacher(Tied().eval(), (3, 8, 8), 6, (0.5,) * 3, (0.2,) * 3)
    scheme = Scheme(
        weight_bits=3,
        activation_bits=(4,),
        target_bits=4,
        mixed=MixedWidths(weights=weights, activations={}) if weights else None,
    )
    student = build_student(teacher, scheme)
    with student.unquantized():
        assert torch.equal(student(images), teacher(images))
    calibrate(student, [images], extremes)
    for preparation in rounding(quick(name)):
        preparation(student, teacher, synthetic, 0, Scratch(None))
        for layer in student.layers:
            assert torch.equal(layer.quantized_weight, layer.weight)
    student.save(tmp_path)
    assert torch.equal(load_student(tmp_path, Tied().eval())(images), student(images))
    assert all(parameter.grad is None for parameter in student.parameters())
    student.train()(images).square().mean().backward()
    assert all(layer.weight.grad is not None for layer in student.layers)
    one, two = student.layers[1:3]
    assert not torch.equal(one.weight.grad, two.weight.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", choices(QuantizationConfig.model_fields["rounding"])[1:])
@pytest.mark.parametrize(
    "scheme", [{}, {"ranges": "per_width"}, {"placement": "layer_input"}], ids=str
)
def test_a_dynamic_student_is_rounded_once_for_all_widths(
    make_student: Callable[..., Student],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    quick: Callable[[Rounding], QuantizationConfig],
    name: Rounding,
    scheme: dict[str, Any],
) -> None:
    student = make_student(**scheme)
    logits = student(images)
    for preparation in rounding(quick(name)):
        preparation(student, teacher, synthetic, 0, Scratch(None))
    rounded, used = student.run(images)
    assert not rounded.equal(logits)
    assert all(torch.equal(layer.quantized_weight, layer.weight) for layer in student.layers)
    assert len(used.unique(dim=0)) > 5
    student.train()(images).square().mean().backward()
    for layer in student.layers:
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
