from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynadfq.quant.bits import allocate, uniform
from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.quantize import (
    choose_qparams,
    fake_quantize_reference,
    fake_quantize_weight,
    levels,
    quantize,
    quantize_weight,
    weight_qparams,
)

RANGES = [(0.0, 1.0), (-0.5, 1.0), (-1.3, 0.4), (-2.0, 0.0)]
WIDTHS = range(2, 9)


def scalar(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype)


def quantized(x: Tensor, low: float, high: float, bits: int) -> Tensor:
    scale, quant_min = choose_qparams(scalar(low, x.dtype), scalar(high, x.dtype), bits)
    return quantize(x, scale, quant_min, levels(bits).to(x)) * scale


@pytest.fixture
def x() -> Tensor:
    return 2 * torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_worked_example() -> None:
    values = torch.tensor([-0.5, -0.1, 0.0, 0.3, 1.0, 1.4])
    expected = torch.tensor([-0.428571, 0.0, 0.0, 0.214286, 1.071429, 1.071429])
    torch.testing.assert_close(quantized(values, -0.5, 1.0, 3), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_quantization_uses_all_levels_keeps_zero_and_is_idempotent(
    x: Tensor, low: float, high: float, bits: int
) -> None:
    once = quantized(x, low, high, bits)
    assert torch.equal(quantized(once, low, high, bits), once)
    scale, quant_min = choose_qparams(scalar(low), scalar(high), bits)
    codes = quantize(x, scale, quant_min, levels(bits))
    assert codes.min() == quant_min and codes.max() == quant_min + 2**bits - 1
    assert quant_min <= 0 <= quant_min + levels(bits)
    assert torch.equal(quantized(torch.zeros(3), low, high, bits), torch.zeros(3))
    inside = (x > low) & (x < high)
    error = ((once - x)[inside].abs() / scale).max()
    assert 0.4 < error <= (0.5 if low == 0 else 1.0) + 1e-5


@pytest.mark.parametrize("bits", WIDTHS)
def test_with_low_zero_it_is_equation_2(x: Tensor, bits: int) -> None:
    upper = 1.7
    step = upper / (2**bits - 1)
    paper = torch.round(x.double().clamp(0, upper) / step) * step
    torch.testing.assert_close(quantized(x.double(), 0.0, upper, bits), paper, atol=1e-12, rtol=0)


def probabilities(images: int, dtype: torch.dtype) -> Tensor:
    return (
        torch.randn(images, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        .softmax(1)
        .to(dtype)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_forward_is_the_chosen_candidate_bit_for_bit(
    x: Tensor, low: float, high: float, dtype: torch.dtype
) -> None:
    x, p, widths = (
        x.to(dtype),
        probabilities(6, dtype),
        torch.tensor([[3.0, 4.0, 5.0]], dtype=dtype),
    )
    out = FakeQuantize.apply(x, scalar(low, dtype), scalar(high, dtype), p, widths)
    chosen = (p.argmax(dim=1) + 3).tolist()
    assert len(set(chosen)) == 3
    expected = torch.cat(
        [quantized(image[None], low, high, bits) for image, bits in zip(x, chosen, strict=True)]
    )
    assert torch.equal(out, expected)


def blend(x: Tensor, low: Tensor, high: Tensor, p: Tensor, bits: list[int]) -> Tensor:
    """Equation 9 as it is read: forward the most probable candidate, backward Σ_m p_m q_m(x)."""
    candidates = torch.stack([fake_quantize_reference(x, low, high, b) for b in bits], dim=1)
    weights = p.expand(len(x), -1).reshape(*p.expand(len(x), -1).shape, *[1] * (x.dim() - 1))
    soft = (weights * candidates).sum(dim=1)
    chosen = p.argmax(dim=1).expand(len(x))
    hard = candidates[torch.arange(len(x)), chosen].detach()
    return hard + (soft - soft.detach())


@pytest.mark.parametrize("shared", [False, True], ids=["a row an image", "one row for all"])
@pytest.mark.parametrize(("low", "high"), [*RANGES, (0.0, 1e-12)])
def test_gradients_are_those_of_the_readable_form(
    x: Tensor, low: float, high: float, shared: bool
) -> None:
    x = x.double()
    x[:2] = x[:2].relu()  # zeros, on the bound of a range that starts there
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = probabilities(1 if shared else len(x), torch.float64)
    widths = torch.tensor([[2.0, 4.0, 7.0]], dtype=torch.float64)

    def gradients(form: object) -> tuple[Tensor, ...]:
        inputs = [
            v.clone().requires_grad_() for v in (x, scalar(low, x.dtype), scalar(high, x.dtype), p)
        ]
        out = (
            FakeQuantize.apply(*inputs, widths)
            if form is FakeQuantize
            else blend(*inputs, [2, 4, 7])
        )
        return (out, *torch.autograd.grad((out * upstream).sum(), inputs))

    fused, readable = gradients(FakeQuantize), gradients(blend)
    if shared:  # the blend sums over images, FakeQuantize leaves one row per image to autograd
        fused = (*fused[:4], fused[4].sum(dim=0, keepdim=True))
    if high < 1e-8:  # a range below the smallest: the scale is a constant
        fused, readable = fused[:2], readable[:2]
    for ours, reference in zip(fused, readable, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-12, rtol=1e-12)
    assert all(gradient.abs().sum() > 0 for gradient in fused)


def test_derivatives_by_probability_are_the_candidates(x: Tensor) -> None:
    x, p = x.double(), probabilities(6, torch.float64).requires_grad_()
    out = FakeQuantize.apply(
        x, scalar(-0.5, x.dtype), scalar(1.0, x.dtype), p, torch.tensor([[3.0, 4.0, 5.0]])
    )
    (gradient,) = torch.autograd.grad(out.sum(), p)
    expected = torch.stack([quantized(x, -0.5, 1.0, b).flatten(1).sum(1) for b in (3, 4, 5)], dim=1)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_zeros_of_a_relu_move_no_bound() -> None:
    inputs = [v.requires_grad_() for v in (torch.zeros(2, 4), scalar(0.0), scalar(1.0))]
    out = FakeQuantize.apply(*inputs, torch.tensor([[0.3, 0.7]]), torch.tensor([[3.0, 4.0]]))
    to_x, to_low, to_high = torch.autograd.grad(out.sum(), inputs)
    assert torch.equal(to_x, torch.ones(2, 4))
    assert to_low == 0 and to_high == 0


def test_bits_have_the_gradient_of_their_expectation() -> None:
    p = torch.tensor([[[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]], requires_grad=True)
    allocation = allocate(p, torch.tensor([3.0, 4.0, 5.0]))
    assert allocation.bits.tolist() == [[4.0, 3.0]]
    (gradient,) = torch.autograd.grad(allocation.bits.sum(), p)
    assert gradient.tolist() == [[[3.0, 4.0, 5.0]] * 2]


def test_a_uniform_allocation_has_nothing_to_learn() -> None:
    allocation = uniform(5, 3)
    assert allocation.bits.tolist() == [[5.0] * 3]
    assert allocation.probabilities is None and allocation.widths is None


def test_8_bit_weights_equal_torchs_for_exact_scales() -> None:
    rng = torch.Generator().manual_seed(3)
    steps, offsets = (
        2.0 ** torch.arange(-9, -1),
        torch.arange(16, 240, 28),
    )  # division by a power of two is exact
    codes = torch.cat(
        [torch.zeros(8, 1), torch.full((8, 1), 255.0), torch.rand(8, 70, generator=rng) * 255],
        dim=1,
    )
    weight = ((codes - offsets[:, None]) * steps[:, None]).view(8, 8, 3, 3)
    scale, quant_min = weight_qparams(weight, 8)
    assert torch.equal(scale.flatten(), steps) and torch.equal(
        -quant_min.flatten(), offsets.float()
    )
    torchs = torch.fake_quantize_per_channel_affine(
        weight, scale.flatten(), -quant_min.flatten().int(), 0, 0, 255
    )
    assert torch.equal(fake_quantize_weight(weight, 8), torchs)


def test_8_bit_weights_of_any_range_equal_torchs_except_for_ties() -> None:
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(4))
    scale, quant_min = weight_qparams(weight, 8)
    torchs = torch.fake_quantize_per_channel_affine(
        weight, scale.flatten(), -quant_min.flatten().int(), 0, 0, 255
    )
    flips = ~torch.isclose(fake_quantize_weight(weight, 8), torchs, rtol=1e-5, atol=1e-7)
    assert flips.float().mean() < 1e-3


@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 7)])
def test_each_output_channel_has_its_own_qparams(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    codes, scale = quantize_weight(weight, 3)
    assert torch.equal(codes, codes.round()) and codes.abs().max() <= 7
    assert scale.shape == (5, *[1] * (len(shape) - 1))
    for channel in range(5):
        alone, step = quantize_weight(weight[channel : channel + 1], 3)
        assert torch.equal(alone, codes[channel : channel + 1]) and torch.equal(
            step[0], scale[channel]
        )
        flat = weight[channel]
        torch.testing.assert_close(step.flatten()[0], (flat.max() - flat.min()) / 7)


def test_qparams_of_the_whole_tensor_are_those_of_its_extremes() -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(5))
    scale, quant_min = weight_qparams(weight, 3, "tensor")
    assert scale.shape == quant_min.shape == (1, 1, 1, 1)
    torch.testing.assert_close(scale.flatten()[0], (weight.max() - weight.min()) / 7)
    codes, step = quantize_weight(weight, 3, (scale, quant_min))
    row = weight.reshape(1, -1)
    assert torch.equal(codes.reshape(1, -1), quantize_weight(row, 3)[0]) and torch.equal(
        step, scale
    )


def test_every_weight_passes_its_gradient_on() -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(6), requires_grad=True)
    out = fake_quantize_weight(weight, 2)
    codes, scale = quantize_weight(weight, 2)
    assert torch.equal(out, codes * scale)
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    assert torch.equal(gradient, torch.ones_like(weight))


def test_a_constant_weight_survives() -> None:
    weight = torch.cat([torch.zeros(1, 4), torch.full((1, 4), 0.7)])
    assert torch.isfinite(fake_quantize_weight(weight, 4)).all()
    torch.testing.assert_close(fake_quantize_weight(weight, 4), weight)


def quantized_with_gradients(x: Tensor, upstream: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    inputs = [v.clone().requires_grad_() for v in (x, scalar(-0.5), scalar(1.0), p)]
    out = FakeQuantize.apply(*inputs, torch.tensor([[3.0, 4.0, 5.0]]))
    return (out, *torch.autograd.grad(out, inputs, upstream))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(7)
    x, upstream = torch.randn(2, 5, 3, 4, 4, generator=rng)
    p = probabilities(5, x.dtype)
    whole = quantized_with_gradients(x, upstream, p)
    monkeypatch.setattr("dynadfq.ops.moments.CHUNK", 2 * x[0].numel())
    for in_chunks, at_once in zip(quantized_with_gradients(x, upstream, p), whole, strict=True):
        assert torch.equal(in_chunks, at_once)


@pytest.mark.parametrize(
    "first", [True, False], ids=["x in channels last", "gradient in channels last"]
)
def test_memory_layout_changes_nothing_but_the_order_of_sums(x: Tensor, first: bool) -> None:
    upstream, p = (
        torch.randn(x.shape, generator=torch.Generator().manual_seed(8)),
        probabilities(6, x.dtype),
    )
    plain = quantized_with_gradients(x, upstream, p)
    turned = [
        v.contiguous(memory_format=torch.channels_last) if turn else v
        for v, turn in ((x, first), (upstream, not first))
    ]
    for ours, expected in zip(quantized_with_gradients(*turned, p), plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)


def test_values_of_bfloat16_are_quantized_in_float32(x: Tensor) -> None:
    short, upstream, p = x.bfloat16(), torch.ones_like(x), probabilities(6, x.dtype)
    out, to_x, to_low, to_high, to_p = quantized_with_gradients(short, upstream.bfloat16(), p)
    expected = quantized_with_gradients(short.float(), upstream, p)
    assert (
        out.dtype == to_x.dtype == torch.bfloat16
        and to_low.dtype == to_high.dtype == to_p.dtype == torch.float32
    )
    assert torch.equal(out, expected[0].bfloat16())
    for ours, reference in zip((to_low, to_high, to_p), expected[2:], strict=True):
        torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(to_x.float(), expected[1], atol=1e-2, rtol=1e-2)
