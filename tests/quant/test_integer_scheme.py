"""Scheme ``integer``: which tensors are on a grid, with which codes, in a network with every
structure."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from everything import MEAN, SHAPE, STD, everything, integer_student, pixels
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from dynadfq.api import load_student, quantize
from dynadfq.evaluation.layer_report import inspect_student
from dynadfq.ops.batch_norm import gain_and_shift
from dynadfq.quant.config import Scheme
from dynadfq.quant.integer import layer_constants, saturates, site_constants
from dynadfq.quant.layers import QuantConv2d, QuantLinear
from dynadfq.quant.quantize import quantize_weight, weight_qparams
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.teacher import Teacher

SITES = {  # name: bits at a target of 4, limits
    "images": (8, (-math.inf, math.inf)),
    "relu6.output": (8, (0.0, 6.0)),
    "depthwise_norm.output": (8, (-math.inf, math.inf)),
    "hardswish.output": (4, (-math.inf, math.inf)),
    "project_norm.output": (8, (-math.inf, math.inf)),
    "add.output": (8, (-math.inf, math.inf)),
    "adaptive_avg_pool2d.output": (8, (-math.inf, math.inf)),
    "relu.output": (4, (0.0, math.inf)),
    "excite.output": (8, (-math.inf, math.inf)),
    "sigmoid.output": (8, (-math.inf, math.inf)),
    "mul.output": (8, (-math.inf, math.inf)),
    "grouped.output": (8, (-math.inf, math.inf)),
    "silu.output": (8, (-math.inf, math.inf)),
    "relu_1.output": (8, (0.0, math.inf)),
    "avg_pool2d.output": (8, (-math.inf, math.inf)),
    "relu_2.output": (8, (0.0, math.inf)),
    "cat.output": (8, (-math.inf, math.inf)),
    "add_1.output": (8, (-math.inf, math.inf)),
    "mean.output": (8, (-math.inf, math.inf)),
}


def test_the_sites_their_widths_and_their_limits() -> None:
    student = integer_student(4, 4)
    found = {
        name: (bits, site.limits)
        for name, bits, site in zip(
            student.site_names, student.target_widths, student.sites, strict=True
        )
    }
    assert found == SITES
    assert [layer.grid for layer in student.cost.trace.layers] == [
        "images",
        "relu6.output",
        "hardswish.output",
        "adaptive_avg_pool2d.output",
        "relu.output",
        "mul.output",
        "silu.output",
        "avg_pool2d.output",
        "mean.output",
    ]


class NormalizesItself(nn.Module):
    """A network that scales its input before the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 6, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(self.norm(images)).flatten(1)
        return logits


def test_what_precedes_the_first_layer_has_eight_bits() -> None:
    student = integer_student(4, 4, Teacher(NormalizesItself().eval(), SHAPE, 6, MEAN, STD))
    assert student.site_names == ("norm.output",) and student.target_widths == [8]


def test_bit_flops_count_the_widths_of_the_scheme() -> None:
    student = integer_student(4, 4)
    table = student.cost.at(student.target_widths).layers
    assert table["input_bits"].tolist() == [8, 8, 4, 8, 4, 8, 8, 8, 8]
    assert (table["bit_flops"] == table["macs"] * 4 * table["input_bits"]).all()
    assert student.cost_range()["target"] == student.cost.at(student.target_widths).percent


@pytest.mark.parametrize("bits", [(8, 8), (4, 8), (4, 4)])
def test_both_forms_agree_and_files_return_the_same_logits(
    tmp_path: Path, bits: tuple[int, int]
) -> None:
    student = integer_student(*bits)
    with torch.no_grad():
        exact, exact_again = (
            student(pixels()),
            torch.cat([student(one) for one in pixels().split(5)]),
        )
        fake = student.train()(pixels())
    assert torch.equal(exact, exact_again)
    one_code = max(site_constants(site).scale.item() for site in student.sites)
    assert ((fake - exact).abs() > 1e-4).float().mean() < 0.05
    assert (fake - exact).abs().max() < 3 * one_code
    student.eval().save(tmp_path)
    again = load_student(tmp_path, everything().module)
    assert again.scheme == student.scheme and torch.equal(again(pixels()), exact)
    assert "scheme integer: 8 bits at the input" in (tmp_path / "card.md").read_text()
    tensors = load_file(tmp_path / "model.safetensors")
    for index, site in enumerate(student.sites):
        scale, zero_point, _ = site_constants(site)
        assert tensors["sites.scale"][index, 0] == scale
        assert tensors["sites.zero_point"][index, 0] == zero_point


def test_the_report_of_layers_gives_each_its_width() -> None:
    layers = inspect_student(integer_student(4, 4))
    assert [layer.activation_bits[0] for layer in layers] == [8, 8, 4, 8, 4, 8, 8, 8, 8]
    assert {layer.status for layer in layers} == {"fixed"}


def test_eight_bits_are_close_to_the_float_network_and_learn() -> None:
    student = integer_student()
    expected = everything()(pixels())
    assert (student(pixels()) - expected).abs().mean() < 0.05 * expected.std()
    with student.unquantized():
        assert torch.equal(student(pixels()), expected)
    student.train()(pixels()).square().sum().backward()
    learned = {name for name, p in student.named_parameters() if p.grad is not None}
    fixed = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert fixed == {"network.sites.0.low", "network.sites.0.high"}
    assert learned == {name for name, _ in student.named_parameters()} - fixed


def test_the_grid_of_the_input_follows_from_its_normalization() -> None:
    site = integer_student().sites[0]
    assert (site.low.item(), site.high.item()) == pytest.approx((-2.4, 2.75))
    site.set_range(torch.tensor(-9.0), torch.tensor(9.0))
    assert site.high.item() == pytest.approx(2.75)


@pytest.mark.parametrize(("mean", "zero", "error"), [(127 / 255, 127, 0.0), (0.48, 122, 0.4)])
def test_pixels_of_eight_bits_keep_their_differences(mean: float, zero: int, error: float) -> None:
    """With one standard deviation, a step is one level; 255 · mean is 127 or 122.4."""
    teacher = Teacher(everything().module, SHAPE, 6, [mean] * 3, [128 / 255] * 3)
    site = quantize(teacher, activation_bits=8, scheme="integer").sites[0]
    levels = torch.arange(256)
    x = ((levels / 255 - mean) / (128 / 255))[:, None]
    values, scale = site(x)
    codes = (values[:, 0] / scale).round()
    assert torch.equal(codes - codes[0], levels.float())
    scale, zero_point, bits = site_constants(site)
    assert scale.item() == pytest.approx(1 / 128) and (zero_point, bits) == (zero, 8)
    assert (values - x).abs().max() <= error / 128 + 1e-6


def test_levels_half_way_between_codes_are_not_rounded_in_pairs() -> None:
    """Where 127.5 is zero, only the two levels in the middle share a code."""
    teacher = Teacher(everything().module, SHAPE, 6, [0.5] * 3, [0.5] * 3)
    site = quantize(teacher, activation_bits=8, scheme="integer").sites[0]
    x = (torch.arange(256) / 255 - 0.5) / 0.5
    values, scale = site(x[:, None])
    positions = x / scale
    assert len(values.unique()) == 255 and scale.item() == pytest.approx(1 / 127)
    assert ((positions - positions.floor() - 0.5).abs() > 1e-3).all()


def test_a_range_ends_where_the_activation_before_it_clips() -> None:
    student = integer_student()
    for site in student.sites[1:]:
        site.set_range(torch.tensor(-10.0), torch.tensor(10.0))
    found = {
        name: (site.low.item(), site.high.item())
        for name, site in zip(student.site_names, student.sites, strict=True)
    }
    assert found["relu6.output"] == (0.0, 6.0)
    assert found["relu.output"] == (0.0, 10.0)
    assert found["hardswish.output"] == (-10.0, 10.0)


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_symmetric_codes(bits: int, granularity: str) -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[4] = 0
    qparams = weight_qparams(weight, bits, granularity, symmetric=True)  # type: ignore[arg-type]
    codes, scale = quantize_weight(weight, bits, qparams, symmetric=True)
    n = 2 ** (bits - 1) - 1
    assert codes.abs().max() == n and scale.shape[0] == (5 if granularity == "channel" else 1)
    assert torch.equal(quantize_weight(-weight, bits, qparams, symmetric=True)[0], -codes)
    assert torch.equal(quantize_weight(codes * scale, bits, qparams, symmetric=True)[0], codes)
    assert ((codes * scale - weight).abs() <= scale / 2 * 1.0001).all()
    assert (codes[4] == 0).all()


def by_hand() -> tuple[QuantConv2d, nn.BatchNorm2d]:
    """Weights of 8 bits with the codes (127, -64), (10, 127), (127, 127), (0, 127)."""
    conv = nn.Conv2d(2, 4, 1)
    norm = nn.BatchNorm2d(4, eps=0.0).eval()
    with torch.no_grad():
        conv.weight.copy_(
            torch.tensor([[1.27, -0.64], [0.2, 2.54], [1.27, 1.27], [0.0, 1.27]])[..., None, None]
        )
        conv.bias.copy_(torch.tensor([0.1, 0.0, 0.5, 0.5]))  # type: ignore[union-attr]
        norm.weight.copy_(torch.tensor([3.0, -2.0, 0.0, 1e-12]))
        norm.bias.copy_(torch.tensor([0.5, 0.27, 0.75, 1.0]))
    return QuantConv2d.from_float(conv, 8, symmetric=True), norm


def test_constants_of_a_layer_by_hand() -> None:
    layer, norm = by_hand()
    codes, scale, bias = layer_constants(layer, norm, torch.tensor(0.5))
    # gain: 0.01·3, 0.02·2 with turned signs, and too little for the bias in the last two channels
    assert codes[:2, :, 0, 0].tolist() == [[127, -64], [-10, -127]]
    assert scale[:2].tolist() == pytest.approx([0.03, 0.04])
    assert bias[:2].tolist() == [round(0.8 / 0.015), round(0.27 / 0.02)]
    assert codes.dtype == torch.int8 and bias.dtype == torch.int32
    assert codes[2].abs().max() == 0 and codes[3].abs().max() <= 1
    assert bias[2:].tolist() == [2**30, 2**30]
    assert (0.5 * scale * bias)[2:].tolist() == pytest.approx([0.75, 1.0])


def test_constants_give_the_layers_output() -> None:
    layer, norm = by_hand()
    layer.eval()
    step = torch.tensor([0.5])
    x = torch.randint(0, 256, (3, 2, 4, 4)).float()
    codes, scale, bias = layer_constants(layer, norm, step[0])
    sums = F.conv2d(x, codes.float()) + bias.view(-1, 1, 1)
    ours = sums * (0.5 * scale).view(-1, 1, 1)
    theirs = norm(layer(0.5 * x, step))
    gain, _ = gain_and_shift(norm)
    unit = (0.5 * scale).view(-1, 1, 1).clamp(min=1e-6)
    assert ((ours - theirs).abs() <= unit).all() and len(gain) == 4


def test_layers_at_risk_without_vnni() -> None:
    layer, _ = by_hand()
    codes, _ = layer.weight_codes()
    assert saturates(codes, 8) and not saturates(codes, 7)
    seven, _ = QuantLinear.from_float(nn.Linear(8, 4), 7, symmetric=True).weight_codes()
    assert not saturates(seven, 8)
    with pytest.raises(ValueError, match="make the student with scheme integer"):
        layer_constants(QuantLinear.from_float(nn.Linear(8, 4), 8), None, torch.tensor(1.0))


def test_several_widths_are_refused_in_one_sentence() -> None:
    with pytest.raises(InvalidArgument) as error:
        quantize(everything(), scheme="integer")
    assert str(error.value) == (
        "activation_bits: must be one width with scheme integer, whose files have no per-image "
        "widths; got [3, 4, 5]; per-image widths: scheme paper"
    )
    assert Scheme(scheme="integer", activation_bits=(8,), target_bits=8).sites == "integer"
