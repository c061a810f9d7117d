"""Calls that are neither layers nor sites, in code form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import quantize
from dynadfq.deploy.codes import to_codes
from dynadfq.deploy.facts import unsafe
from dynadfq.deploy.modules import InFloat64
from dynadfq.quant.calibration import calibrate, extremes
from dynadfq.quant.model import Student
from dynadfq.teacher import Teacher


class Around(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.last, self.function = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.conv(x).relu())).flatten(2).amax(2)


def student_with(function: Callable[[Tensor], Tensor]) -> tuple[Student, Tensor]:
    torch.manual_seed(0)
    student = quantize(Teacher(Around(function), (3, 8, 8), 5, (0,) * 3, (1,) * 3), activation_bits=4)
    images = torch.randn(4, 3, 8, 8)
    calibrate(student, [images], extremes)
    return student, images


@pytest.mark.parametrize(
    "gate",
    [torch.sigmoid, F.hardsigmoid, lambda x: F.softmax(x, dim=1), lambda x: x.softmax(1), lambda x: x.sigmoid_()],
)
def test_gates_called_as_functions_are_computed_in_float64(gate: Callable[[Tensor], Tensor]) -> None:
    student, images = student_with(lambda x: x * gate(x.clone()))
    codes = to_codes(student)
    assert not unsafe(codes.facts)
    assert sum(isinstance(module, InFloat64) for module in codes.network.modules()) == 1
    assert torch.equal(torch.cat([codes(image[None]) for image in images]), codes(images))
    assert (codes(images) - student(images)).abs().max() < 1e-5


@pytest.mark.parametrize("function", [torch.exp, lambda x: x.cumsum(1), lambda x: torch.addcmul(x, x, x), torch.rsqrt])
def test_what_engines_may_compute_otherwise_is_named(function: Callable[[Tensor], Tensor]) -> None:
    student, _ = student_with(lambda x: function(x + 1))
    assert len(unsafe(to_codes(student).facts)) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.size(1) + x.clamp(0, 1).maximum(x) - x.abs().sqrt(),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: x * x[:, :1].expand_as(x),
        lambda x: x * F.relu6(x + 3) / 6,
    ],
)
def test_arithmetic_that_is_defined_to_the_bit_stays(function: Callable[[Tensor], Tensor]) -> None:
    student, images = student_with(function)
    codes = to_codes(student)
    assert not unsafe(codes.facts)
    assert torch.equal(torch.cat([codes(image[None]) for image in images]), codes(images))
