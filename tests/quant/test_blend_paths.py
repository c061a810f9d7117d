"""``FakeQuantize`` computes shared ranges, shared widths and fixed ranges in fewer passes: laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.quantize import levels, weight_qparams

WIDTHS = torch.tensor([[3.0, 4.0, 5.0]])
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def passes(
    x: Tensor, low: Tensor, high: Tensor, p: Tensor, widths: Tensor, wanted: str
) -> dict[str, Tensor]:
    """The values, and the gradients to the wanted of x, low, high and p."""
    inputs = dict(zip("xlhp", (x, low, high, p), strict=True))
    leaves = {
        name: value.detach().clone().requires_grad_(name in wanted)
        for name, value in inputs.items()
    }
    out = FakeQuantize.apply(*leaves.values(), widths)
    upstream = noise(*x.shape, seed=9).bfloat16().to(x)  # exact in every type
    found = torch.autograd.grad(out, [leaves[name] for name in wanted], upstream)
    return {"out": out.detach(), **dict(zip(wanted, found, strict=True))}


def inputs(images: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    x = 2 * noise(images, 8, 6, 6, seed=0, dtype=dtype)
    p = noise(images, 3, seed=1, dtype=dtype).softmax(dim=1)
    return x, torch.tensor(-0.5, dtype=dtype), torch.tensor(1.0, dtype=dtype), p


def test_equal_ranges_of_each_candidate_are_a_shared_one() -> None:
    x, low, high, p = inputs(dtype=torch.float64)
    shared = passes(x, low, high, p, WIDTHS, "xlhp")
    own = passes(x, low.expand(3), high.expand(3), p, WIDTHS, "xlhp")
    assert torch.equal(own["out"], shared["out"]) and torch.equal(own["p"], shared["p"])
    for name in "lh":
        assert own[name].shape == (3,) and (own[name] != 0).all()
        torch.testing.assert_close(own[name].sum(), shared[name], atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(own["x"], shared["x"], atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("wanted", ["x", "xp", "xh", "xlh"])
@pytest.mark.parametrize("candidates", [1, 3])
def test_a_gradient_does_not_depend_on_which_others_are_wanted(
    wanted: str, candidates: int
) -> None:
    x, low, high, p = inputs()
    p = p[:, :candidates] if candidates > 1 else torch.ones(1, 1)
    every = passes(x, low, high, p, WIDTHS[:, :candidates], "xlhp")
    some = passes(x, low, high, p, WIDTHS[:, :candidates], wanted)
    assert all(torch.equal(value, every[name]) for name, value in some.items())


def test_a_width_for_all_images_is_that_width_for_each() -> None:
    x, low, high, _ = inputs()
    one = torch.tensor([[4.0]])
    shared = passes(x, low, high, torch.ones(1, 1), one, "xlh")
    each = passes(x, low, high, torch.ones(6, 1), one.expand(6, 1), "xlh")
    assert all(torch.equal(value, each[name]) for name, value in shared.items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_does_not_depend_on_its_batch(layout: torch.memory_format) -> None:
    x, low, high, p = inputs()
    x = x.contiguous(memory_format=layout)
    upstream = noise(*x.shape, seed=9)
    leaves = [value.clone().requires_grad_() for value in (x, p)]
    out = FakeQuantize.apply(leaves[0], low, high, leaves[1], WIDTHS)
    batch = (out, *torch.autograd.grad(out, leaves, upstream))
    for image in range(len(x)):
        own = [value[image : image + 1].clone().requires_grad_() for value in (x, p)]
        alone = FakeQuantize.apply(own[0], low, high, own[1], WIDTHS)
        found = (alone, *torch.autograd.grad(alone, own, upstream[image : image + 1]))
        assert all(
            torch.equal(ours[0], all_[image]) for ours, all_ in zip(found, batch, strict=True)
        )


@pytest.mark.parametrize("per_width", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_of_bfloat16_are_rounded_once(
    layout: torch.memory_format, per_width: bool
) -> None:
    x, low, high, p = inputs()
    if per_width:
        low, high = low.expand(3), high.expand(3)
    short = x.bfloat16().contiguous(memory_format=layout)
    ours = passes(short, low, high, p, WIDTHS, "xlhp")
    exact = passes(short.float(), low, high, p, WIDTHS, "xlhp")
    for name in ("out", "x"):
        assert ours[name].dtype == torch.bfloat16
        assert torch.equal(ours[name], exact[name].bfloat16())
    assert all(torch.equal(ours[name], exact[name]) for name in "lhp")


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_qparams_of_weights_do_not_depend_on_the_memory_layout(granularity: str) -> None:
    weight = noise(5, 4, 3, 3, seed=2)
    turned = weight.contiguous(memory_format=torch.channels_last)
    for ours, expected in zip(
        weight_qparams(turned, 4, granularity), weight_qparams(weight, 4, granularity), strict=True
    ):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("bits", range(2, 17))
def test_levels_of_a_number_are_those_of_a_tensor(bits: int) -> None:
    assert torch.equal(levels(bits), levels(torch.tensor(bits)))
    assert levels(bits) == 2**bits - 1
