"""Frozen weights: their qparams are part of the student's state, and exact."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.quant.build import load_student
from dynadfq.quant.layers import QuantConv2d, QuantizedLayer, QuantLinear
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import levels, quantize_weight, weight_qparams

Build = Callable[..., Student]


def freeze_all(student: Student, shrink: float = 0.7) -> dict[int, Tensor]:
    """Freeze every layer at random codes of ``shrink`` times its range, and return the codes."""
    fixed = {}
    rng = torch.Generator().manual_seed(3)
    for number, layer in enumerate(student.layers):
        scale, quant_min = weight_qparams(layer.weight * shrink, layer.weight_bits)
        n = levels(layer.weight_bits).item()
        fixed[number] = quant_min + torch.randint(0, int(n) + 1, layer.weight.shape, generator=rng)
        layer.freeze_weight(fixed[number], (scale, quant_min))
    return fixed


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [1e-6, 0.1, 30.0])
def test_frozen_weights_quantize_to_their_codes(bits: int, size: float) -> None:
    rng = torch.Generator().manual_seed(bits)
    for float_layer, shape in ((nn.Conv2d(6, 50, 3), (50, 1, 1, 1)), (nn.Linear(40, 50), (50, 1))):
        kind = QuantConv2d if isinstance(float_layer, nn.Conv2d) else QuantLinear
        layer = kind.from_float(float_layer, bits)
        layer.weight.data = size * torch.randn(layer.weight.shape, generator=rng)
        scale, quant_min = weight_qparams(layer.weight, bits)
        codes = quant_min + torch.randint(0, 2**bits, layer.weight.shape, generator=rng)
        layer.freeze_weight(codes, (scale, quant_min))
        assert layer.frozen_qparams is not None and layer.frozen_qparams[0].shape == shape
        again, step = quantize_weight(layer.weight, bits, layer.frozen_qparams)
        assert torch.equal(again, codes) and torch.equal(step, scale)
        layer.freeze_weight(again, layer.frozen_qparams)
        assert torch.equal(layer.weight, codes * scale)


def test_both_forms_use_frozen_qparams(make_student: Build, images: Tensor) -> None:
    student = make_student(4)
    before = student(images)
    codes = freeze_all(student)
    exact, fake = student(images), student.train()(images)
    assert not torch.equal(exact, before)
    assert ((exact - fake).abs().amax(dim=1) < 1e-4).float().mean() > 0.95
    layer = student.layers[1]
    x, scale = torch.randint(0, 16, (4, 8, 8, 8)) * 0.25, torch.tensor([0.25])
    qparams = layer.frozen_qparams
    assert qparams is not None
    expected = nn.functional.conv2d(x, codes[1] * qparams[0], None, layer.stride, layer.padding)
    for training in (True, False):
        torch.testing.assert_close(layer.train(training)(x, scale), expected, atol=1e-5, rtol=1e-5)


def test_frozen_qparams_do_not_follow_the_weights(make_student: Build, images: Tensor) -> None:
    student = make_student(4)
    freeze_all(student)
    layer = student.layers[0]
    qparams = layer.frozen_qparams
    assert qparams is not None
    scale, quant_min = (part.clone() for part in qparams)
    student.train()(images).square().mean().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0
    with torch.no_grad():
        layer.weight.mul_(3)
    codes, _ = quantize_weight(layer.weight, 4, layer.frozen_qparams)
    assert (codes >= quant_min).all() and (codes <= quant_min + 15).all()
    assert torch.equal(layer.frozen_qparams[0], scale)  # type: ignore[index]


def test_saved_and_loaded(
    make_student: Build, make_net: Callable[[], nn.Module], images: Tensor, tmp_path: Path
) -> None:
    student = make_student(4)
    plain = set(student.network.state_dict())
    freeze_all(student)
    assert set(student.network.state_dict()) - plain == {
        f"{layer}.{name}"
        for layer in ("conv1", "conv2", "conv3", "conv4", "fc")
        for name in ("weight_scale", "weight_quant_min")
    }
    student.save(tmp_path)
    loaded = load_student(tmp_path, make_net())
    loaded.save(tmp_path / "again")
    assert torch.equal(loaded(images), student(images))
    assert torch.equal(loaded.train()(images), student.train()(images))
    assert (tmp_path / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors"
    ).read_bytes()
    copy = deepcopy(student.eval())
    assert torch.equal(copy(images), student(images))


def test_a_state_without_qparams_unfreezes_the_layer(make_student: Build, images: Tensor) -> None:
    student = make_student(4)
    state, before = deepcopy(student.network.state_dict()), student(images)
    freeze_all(student)
    student.network.load_state_dict(state)
    assert all(layer.frozen_qparams is None for layer in student.layers)
    assert torch.equal(student(images), before)


def test_the_float_layer_is_left_alone() -> None:
    layer = nn.Linear(4, 3)
    quantized = QuantLinear.from_float(layer, 4)
    qparams = weight_qparams(layer.weight, 4)
    quantized.freeze_weight(quantize_weight(layer.weight, 4)[0], qparams)
    assert isinstance(quantized, QuantizedLayer) and not list(layer.buffers())
