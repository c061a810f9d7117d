"""Calls that are neither layers nor sites, in integer form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import quantize
from dynadfq.export.conversion_report import unsafe
from dynadfq.export.functions import composed
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.modules import AveragePool, InFloat64
from dynadfq.graph.activations import ACTIVATIONS
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher


class Around(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.last, self.function = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.conv(x).relu())).flatten(2).amax(2)


def student_with(function: Callable[[Tensor], Tensor]) -> tuple[Student, Tensor]:
    torch.manual_seed(0)
    student = quantize(
        Teacher(Around(function), (3, 8, 8), 5, (0,) * 3, (1,) * 3), activation_bits=4
    )
    images = torch.randn(4, 3, 8, 8)
    calibrate(student, [images], extremes)
    return student, images


@pytest.mark.parametrize(
    "gate",
    [torch.sigmoid, lambda x: F.softmax(x, dim=1), lambda x: x.softmax(1), lambda x: x.sigmoid_()],
)
def test_gates_called_as_functions_are_computed_in_float64(
    gate: Callable[[Tensor], Tensor],
) -> None:
    student, images = student_with(lambda x: x * gate(x.clone()))
    codes = to_integer_form(student)
    assert not unsafe(codes.facts)
    assert sum(isinstance(module, InFloat64) for module in codes.network.modules()) == 1
    assert torch.equal(torch.cat([codes(image[None]) for image in images]), codes(images))
    assert (codes(images) - student(images)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "function", [torch.exp, lambda x: x.cumsum(1), lambda x: torch.addcmul(x, x, x), torch.rsqrt]
)
def test_what_engines_may_compute_otherwise_is_named(function: Callable[[Tensor], Tensor]) -> None:
    student, _ = student_with(lambda x: function(x + 1))
    assert len(unsafe(to_integer_form(student).facts)) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.size(1) + x.clamp(0, 1).maximum(x) - x.abs().sqrt(),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: x * x[:, :1].expand_as(x),
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * F.hardsigmoid(x - 1),
        lambda x: F.rrelu(x - 1, 0.1, upper=0.3),
        nn.RReLU(),
    ],
)
def test_arithmetic_that_is_defined_to_the_bit_stays(function: Callable[[Tensor], Tensor]) -> None:
    student, images = student_with(function)
    codes = to_integer_form(student)
    assert not unsafe(codes.facts)
    assert torch.equal(torch.cat([codes(image[None]) for image in images]), codes(images))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.avg_pool2d(input=x, kernel_size=2),
        lambda x: F.adaptive_avg_pool2d(input=x, output_size=3),
    ],
)
def test_pools_whose_input_has_a_name(function: Callable[[Tensor], Tensor]) -> None:
    student, images = student_with(function)
    codes = to_integer_form(student)
    assert [type(module) for module in codes.network.modules()].count(AveragePool) == 1
    assert (codes(images) - student(images)).abs().max() < 1e-5


class WrittenOut(nn.GELU):
    """A GELU of a user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / 2**0.5))


SETTINGS = (nn.GELU("tanh"), nn.ELU(0.3), nn.CELU(0.7), nn.Softplus(3.0, 5.0), nn.LeakyReLU(0.3))


@pytest.mark.parametrize(
    "module", [*(kind() for kind in ACTIVATIONS), *SETTINGS, nn.Hardsigmoid(), WrittenOut()]
)
def test_a_composed_function_is_the_function(module: nn.Module) -> None:
    near, far = torch.linspace(-3, 3, 1201), torch.linspace(-60, 60, 1201)
    x, module = torch.cat([near, far, near * 1e-6]).double(), module.double()
    with torch.no_grad():
        torch.testing.assert_close(composed(module)(x), module(x), rtol=2e-15, atol=1e-15)


@pytest.mark.parametrize("module", [nn.Hardswish(), nn.Hardsigmoid()])
def test_a_hard_function_has_the_same_bits_in_float32(module: nn.Module) -> None:
    x = torch.linspace(-5, 5, 9001)
    assert torch.equal(composed(module)(x), module(x))


def test_an_activation_that_cannot_be_traced_is_used_as_it_is() -> None:
    class Swish(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x) if x.abs().max() < 1e4 else F.relu(x)

    module = Swish()
    assert composed(module) is module
