"""SQuant against a slow sequential version of it, and what it promises of the sums of rounding
errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.squant import flip_rows, squant_codes, squant_layer, squant_rounding
from dynadfq.quant.build import load_student
from dynadfq.quant.layers import QuantConv2d
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import quantize_weight, weight_qparams
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
SHAPES = {
    "3x3": (24, 16, 9),
    "7x7": (12, 3, 49),
    "1x1": (16, 40, 1),
    "linear": (6, 48, 1),
    "depthwise": (32, 1, 9),
}


def positions(shape: tuple[int, int, int], bits: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal weights in units of their step, (out, in, K) float64, and the quant_min of their
    grids, (out, 1, 1)."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    scale, quant_min = weight_qparams(weight, bits)
    return weight.double() / scale.double(), quant_min.double()


def one_channel(kernels: list[list[float]], quant_min: float, highest: float) -> list[list[int]]:
    """SQuant of one output channel, an element at a time."""
    codes = [[round(x) for x in kernel] for kernel in kernels]
    offers = []  # (kernel, element, direction, priority)
    for i, kernel in enumerate(kernels):
        error = [q - x for q, x in zip(codes[i], kernel, strict=True)]
        total = sum(error)
        direction = 1 if total < 0 else -1
        willing = [
            j
            for j, x in enumerate(kernel)
            if (error[j] < 0 and x < highest if direction == 1 else error[j] > 0 and x > quant_min)
        ]
        willing.sort(key=lambda j: -abs(error[j]))
        if len(kernel) == 1:
            for sign in (1, -1):
                if (
                    (error[0] < 0 and kernel[0] < highest)
                    if sign == 1
                    else (error[0] > 0 and kernel[0] > quant_min)
                ):
                    offers.append((i, 0, sign, abs(error[0])))
            continue
        flips = round(abs(total))
        for j in willing[:flips]:
            codes[i][j] += direction
        if flips and flips >= abs(total):
            j = willing[flips - 1]
            offers.append((i, j, -direction, abs(codes[i][j] - kernel[j])))
        elif len(willing) > flips:
            j = willing[flips]
            offers.append((i, j, direction, abs(codes[i][j] - kernel[j])))
    total = sum(
        q - x
        for row, kernel in zip(codes, kernels, strict=True)
        for q, x in zip(row, kernel, strict=True)
    )
    direction = 1 if total < 0 else -1
    fitting = sorted(
        (offer for offer in offers if offer[2] == direction), key=lambda offer: -offer[3]
    )
    for i, j, _, _ in fitting[: round(abs(total))]:
        codes[i][j] += direction
    return [[int(min(max(q, quant_min), highest)) for q in row] for row in codes]


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_the_sequential_version(shape: tuple[int, int, int], bits: int) -> None:
    for seed in range(3):
        x, quant_min = positions(shape, bits, seed)
        codes = squant_codes(x, quant_min, 2**bits - 1)
        expected = [
            one_channel(channel.tolist(), low.item(), low.item() + 2**bits - 1)
            for channel, low in zip(x, quant_min, strict=True)
        ]
        assert torch.equal(codes, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_errors_cancel(shape: tuple[int, int, int], bits: int) -> None:
    x, quant_min = positions(shape, bits, 7)
    codes = squant_codes(x, quant_min, 2**bits - 1)
    error = codes - x
    assert (codes >= quant_min).all() and (codes <= quant_min + 2**bits - 1).all()
    assert error.abs().max() < 1
    assert error.sum(dim=2).abs().max() < 1
    assert error.sum(dim=(1, 2)).abs().max() <= 0.5 + 1e-9
    if shape[1] == 1:
        assert error.sum(dim=2).abs().max() <= 0.5 + 1e-9
    flipped = (codes != torch.round(x)).double().mean()
    assert 0 < flipped < 0.2


def test_nearest_rounding_lets_errors_add_up() -> None:
    x, quant_min = positions((64, 64, 9), 4)
    nearest, codes = torch.round(x) - x, squant_codes(x, quant_min, 15) - x
    assert nearest.sum(dim=2).abs().max() > 2 > 2 * codes.sum(dim=2).abs().max()
    assert nearest.sum(dim=(1, 2)).abs().max() > 10
    assert 0.02 < (nearest != codes).double().mean() < 0.1


def test_a_kernel_that_cancels_by_itself_is_left_alone() -> None:
    x = torch.tensor([[[0.25, 0.75, 1.0]]], dtype=torch.float64)
    assert torch.equal(
        squant_codes(x, torch.zeros(1, 1, 1), 7),
        torch.tensor([[[0.0, 1.0, 1.0]]], dtype=torch.float64),
    )


def test_the_outermost_codes_are_not_left() -> None:
    x = torch.tensor([[[7.45, 7.45, 7.45, 0.0]], [[-0.45, -0.45, -0.45, 0.0]]], dtype=torch.float64)
    codes = squant_codes(x, torch.zeros(2, 1, 1), 7)
    assert torch.equal(codes, torch.round(x).clamp(0, 7))


def test_the_largest_errors_are_flipped_first() -> None:
    error = torch.tensor([[-0.1, -0.4, -0.3, -0.4, 0.2]])
    flips = flip_rows(error, (-error).clamp(min=0), error.clamp(min=0))
    assert flips.change.tolist() == [[0.0, 1.0, 0.0, 0.0, 0.0]]
    assert flips.rank.tolist() == [[3, 0, 2, 1, 4]]
    assert (
        flip_rows(-error, error.clamp(min=0), (-error).clamp(min=0)).change == -flips.change
    ).all()


def test_a_constant_image_comes_through() -> None:
    """The worst case of errors that add up: every tap sees the same value."""
    conv = nn.Conv2d(32, 16, 3, bias=False)
    conv.weight.data = torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(0))
    layer = QuantConv2d.from_float(nn.Conv2d(32, 16, 3, bias=False), 4)
    layer.load_state_dict(conv.state_dict())
    image = torch.ones(1, 32, 3, 3)
    step = weight_qparams(conv.weight, 4)[0].flatten()
    nearest = ((layer(image) - conv(image)).abs().flatten() / step).max()
    squant_layer(layer)
    assert ((layer(image) - conv(image)).abs().flatten() / step).max() < 0.5 + 1e-3 < nearest


def test_a_student_is_rounded(
    make_student: Build,
    make_net: Callable[[], nn.Module],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    tmp_path: Path,
) -> None:
    student, before = make_student(4), teacher(images)
    nearest, weights = student(images), [layer.weight.clone() for layer in student.layers]
    squant_rounding(student, teacher, synthetic, 0)
    rounded = student(images)
    assert not torch.equal(rounded, nearest) and torch.equal(teacher(images), before)
    for layer, weight in zip(student.layers, weights, strict=True):
        codes, scale = quantize_weight(layer.weight, 4, layer.frozen_qparams)
        assert torch.equal(codes * scale, layer.weight)
        sums = (codes - weight / scale).flatten(1).sum(dim=1)
        assert sums.abs().max() <= 0.5 + 1e-4
    student.save(tmp_path)
    assert torch.equal(load_student(tmp_path, make_net())(images), rounded)
    squant_rounding(student, teacher, synthetic, 1)
    assert torch.equal(student(images), rounded)
