from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.losses.objective import bit_regularization
from dynadfq.ptq.calibration import extremes, observing
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.layers import EXACT_IN_FLOAT32, QuantConv2d, QuantizedLayer, QuantLinear
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import quantize_weight
from dynadfq.quant.selector_config import SelectorShape
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
PLACEMENTS = ("relu_output", "layer_input")


def always(student: Student, bits: int, last_linear: Callable[[Student], nn.Linear]) -> Student:
    """Let the selector answer ``bits`` whatever it sees."""
    layer, candidates = last_linear(student), student.scheme.activation_bits
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(
            torch.tensor([40.0 * (width == bits) for width in candidates]).repeat(
                len(layer.bias) // 3
            )
        )
    return student


def in_form(student: Student, training: bool) -> Student:
    """The train form with the selector's dropout off, or the exact form."""
    student.train(training)
    if student.selector is not None:
        student.selector.eval()
    return student


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("training", [True, False])
def test_without_quantization_it_is_the_float_model(
    make_student: Build, teacher: Teacher, images: Tensor, placement: str, training: bool
) -> None:
    student = in_form(make_student(placement=placement), training)
    quantized = student(images)
    with student.unquantized():
        assert torch.equal(student(images), teacher(images))
    assert torch.equal(student(images), quantized)
    assert not torch.equal(quantized, teacher(images))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bits", [3, 5])
def test_a_forced_width_is_the_fixed_student(
    make_student: Build, images: Tensor, placement: str, training: bool, bits: int
) -> None:
    dynamic = in_form(make_student(3, 4, 5, placement=placement), training)
    fixed = in_form(make_student(bits, placement=placement), training)
    logits, used = dynamic.run(images, uniform(bits, len(dynamic.sites)))
    expected, fixed_bits = fixed.run(images)
    assert torch.equal(logits, expected)
    assert (
        torch.equal(used, fixed_bits)
        and used.shape == (256, len(dynamic.sites))
        and (used == bits).all()
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bits", [3, 4, 5])
def test_a_selector_that_always_answers_one_width(
    make_student: Build,
    last_linear_of_selector: Callable,
    images: Tensor,
    training: bool,
    bits: int,
) -> None:
    dynamic = in_form(always(make_student(3, 4, 5), bits, last_linear_of_selector), training)
    logits, used = dynamic.run(images)
    expected_bits = torch.tensor(
        [5.0, bits, bits, bits]
    )  # the first site comes before the selector
    assert torch.equal(used, expected_bits.expand(256, -1))
    assert torch.equal(
        logits, make_student(5).train(training).run(images, BitAllocation(expected_bits[None]))[0]
    )
    if bits == 5:
        assert torch.equal(logits, make_student(5).train(training)(images))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_image_is_answered_alike_in_any_batch(
    make_student: Build, images: Tensor, placement: str
) -> None:
    student = make_student(placement=placement)
    logits, bits = student.run(images)
    assert len(bits.unique(dim=0)) > 5
    for size in (1, 7):
        runs = [student.run(batch) for batch in images.split(size)]
        assert torch.equal(torch.cat([used for _, used in runs]), bits)
        torch.testing.assert_close(torch.cat([part for part, _ in runs]), logits, atol=1e-5, rtol=0)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    shuffled, used = student.run(images[order])
    assert torch.equal(used, bits[order])
    torch.testing.assert_close(shuffled, logits[order], atol=1e-5, rtol=0)


def test_train_and_exact_form_agree_but_for_rounding_flips(
    make_student: Build, images: Tensor
) -> None:
    student = make_student()
    exact, bits = student.run(images)
    fake, fake_bits = in_form(student, True).run(images)
    assert (fake_bits != bits).float().mean() < 0.01
    difference = (fake - exact).abs().amax(dim=1)
    assert difference.median() < 1e-5
    assert (difference > 1e-4).float().mean() < 0.05


def test_each_image_is_at_its_own_width(make_student: Build, images: Tensor) -> None:
    student = make_student()
    logits, bits = student.run(images[:16])
    for i in range(16):
        alone, _ = student.run(images[i : i + 1], BitAllocation(bits[i : i + 1]))
        torch.testing.assert_close(alone[0], logits[i], atol=1e-5, rtol=0)
    given, used = student.run(images[:16], BitAllocation(bits))
    assert torch.equal(given, logits) and torch.equal(used, bits)


@pytest.mark.parametrize(
    ("placement", "on_codes"),
    [
        ("relu_output", ["conv2", "conv3", "conv4"]),
        ("layer_input", ["conv2", "conv3", "conv4", "fc"]),
    ],
)
def test_layers_that_read_a_site_multiply_codes(
    make_student: Build,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    placement: str,
    on_codes: list[str],
) -> None:
    student, used = make_student(placement=placement), []
    names = {id(module): name for name, module in student.network.named_modules()}
    original = QuantizedLayer._multiply_codes

    def spy(self: QuantizedLayer, x: Tensor, scale: Tensor) -> Tensor:
        used.append(names[id(self)])
        codes = x / scale.view(-1, *[1] * (x.dim() - 1))
        assert (codes - codes.round()).abs().max() < 1e-3
        return original(self, x, scale)

    monkeypatch.setattr(QuantizedLayer, "_multiply_codes", spy)
    student(images)
    assert used == on_codes


class Stop(Exception):
    pass


@pytest.mark.parametrize("training", [True, False])
def test_blocks_that_fail_leave_nothing_behind(
    make_student: Build, images: Tensor, training: bool
) -> None:
    student = in_form(make_student(), training)
    before, hooks = student(images), [len(module._forward_hooks) for module in student.modules()]
    modes = [module.training for module in student.modules()]
    with pytest.raises(Stop), student.unquantized():
        raise Stop
    with pytest.raises(Stop), observing(student, extremes):
        student(images)
        raise Stop
    assert all(site.observer is None for site in student.sites)
    assert [module.training for module in student.modules()] == modes
    assert [len(module._forward_hooks) for module in student.modules()] == hooks
    assert torch.equal(student(images), before)


def test_an_inner_block_does_not_end_the_outer_one(
    make_student: Build, teacher: Teacher, images: Tensor
) -> None:
    student = make_student()
    quantized, exact = student(images), teacher(images)
    with student.unquantized():
        with student.unquantized():
            assert torch.equal(student(images), exact)
        assert torch.equal(student(images), exact)
        with pytest.raises(Stop), student.unquantized():
            raise Stop
        assert torch.equal(student(images), exact)
        with observing(student, extremes):
            student(images)
        assert torch.equal(student(images), exact)
    assert torch.equal(student(images), quantized)


@pytest.mark.parametrize(
    ("low", "high", "kept"),
    [
        (0.2, 1.0, (0.0, 1.0)),
        (-1.0, -0.3, (-1.0, 0.0)),
        (-0.5, 0.5, (-0.5, 0.5)),
        (0.0, 0.0, (0.0, 0.0)),
    ],
)
def test_ranges_are_extended_to_contain_zero(
    make_student: Build, images: Tensor, low: float, high: float, kept: tuple[float, float]
) -> None:
    student = make_student()
    others = [(site.low.item(), site.high.item()) for site in student.sites[2:]]
    site = student.sites[1]
    with torch.no_grad():
        site.low.fill_(low)
        site.high.fill_(high)
    student.keep_zero_in_range()
    assert (site.low.item(), site.high.item()) == pytest.approx(kept)
    assert [(site.low.item(), site.high.item()) for site in student.sites[2:]] == others
    assert site.low.requires_grad and site.low.grad_fn is None
    quantized, _ = site(torch.zeros(1, 12, 4, 4), uniform(3, len(student.sites)))
    assert (quantized == 0).all()
    assert torch.isfinite(student(images[:4])).all()


def test_batch_norm_keeps_its_statistics(make_student: Build, images: Tensor) -> None:
    student = make_student().train()
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    assert student.training and student.selector is not None and student.selector.dropout.training
    student(images).sum().backward()
    for norm, (mean, variance) in zip(norms, before, strict=True):
        assert not norm.training
        assert torch.equal(norm.running_mean, mean) and torch.equal(norm.running_var, variance)
    assert not any(module.training for module in student.eval().modules())


def test_every_parameter_learns_and_frozen_ranges_do_not(
    make_student: Build, images: Tensor
) -> None:
    for learned in (True, False):
        student = make_student(learned_ranges=learned).train()
        logits, bits = student.run(images)
        (logits.square().mean() + student.bit_flops_ratio(bits).mean()).backward()
        still = {
            name
            for name, p in student.named_parameters()
            if p.grad is None or not p.grad.abs().sum() > 0
        }
        ranges = {
            name for name, _ in student.named_parameters() if name.endswith((".low", ".high"))
        }
        assert len(ranges) == 2 * len(student.sites)
        assert {name for name in still if not name.endswith(".low")} == (
            set() if learned else ranges - lows(ranges)
        )


def lows(names: set[str]) -> set[str]:
    return {name for name in names if name.endswith(".low")}


def test_the_budget_pulls_only_images_above_it(make_student: Build, images: Tensor) -> None:
    student = make_student(shape=SelectorShape(pool=2, hidden=16, dropout=0.0)).train()
    _, bits = student.run(images)
    ratio = student.bit_flops_ratio(bits)
    at_target = student.bit_flops_ratio(torch.full((1, len(student.sites)), 4.0))
    assert at_target.item() == 1.0
    assert (ratio < 1).any() and (ratio > 1).any()
    (gradient,) = torch.autograd.grad(bit_regularization(ratio), bits)
    per_site = student.cost.per_site.float() / student.cost.total(torch.full((4,), 4.0)).float()
    expected = torch.where((ratio > 1)[:, None], per_site / 256, torch.zeros(4))
    torch.testing.assert_close(gradient, expected, atol=1e-9, rtol=1e-5)


def test_loading_says_what_is_missing(make_net: Callable[[], nn.Module], tmp_path: Path) -> None:
    class Unreachable(nn.Sequential):
        """A network whose class no import path reaches."""

    with pytest.raises(FileNotFoundError, match=r"student\.json does not exist; make it first"):
        load_student(tmp_path)
    teacher = Teacher(Unreachable(make_net()), (3, 8, 8), 6, (0, 0, 0), (1, 1, 1))
    scheme = Scheme(weight_bits=4, activation_bits=(4,), target_bits=4)
    build_student(teacher, scheme).save(tmp_path)
    with pytest.raises(ValueError, match="in no zoo and has no import path; pass its float"):
        load_student(tmp_path)


def test_a_deep_copy_is_a_student_of_its_own(make_student: Build, images: Tensor) -> None:
    student = make_student()
    before, copy = student(images), deepcopy(student)
    assert torch.equal(copy(images), before)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(copy(images), before)
    assert torch.equal(student(images), before)


def test_the_teacher_is_not_touched(make_student: Build, teacher: Teacher, images: Tensor) -> None:
    before = teacher(images)
    student = make_student().train()
    student(images).sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(teacher(images), before)
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


def test_sums_beyond_float32_are_exact_too() -> None:
    rng = torch.Generator().manual_seed(0)
    layer = nn.Linear(16384, 3, bias=False)
    layer.weight.data = torch.rand(3, 16384, generator=rng)
    layer.weight.data[:, 0] = 0.0
    quantized = QuantLinear.from_float(layer, 8).eval()
    codes = torch.randint(200, 256, (5, 16384), generator=rng)
    weight_codes, step = quantize_weight(layer.weight, 8)
    sums = codes @ weight_codes.long().T
    assert sums.max() > EXACT_IN_FLOAT32
    assert not torch.equal(codes.float() @ weight_codes.T, sums.float()), "float32 would have done"
    scale = torch.tensor([0.25])
    expected = sums.float() * (scale * step.T)
    assert torch.equal(quantized(codes * scale, scale), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_the_exact_form_of_layers_is_their_product(bias: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    layers = {
        (4, 8, 6, 6): nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2, bias=bias),
        (4, 9, 8): nn.Linear(8, 6, bias=bias),
        (4, 2, 3, 8): nn.Linear(8, 6, bias=bias),
    }
    for shape, layer in layers.items():
        kind = QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear
        quantized = kind.from_float(layer, 4)
        scale = 0.1 + torch.rand(4, generator=rng)
        x = torch.randint(-4, 12, shape, generator=rng) * scale.view(-1, *[1] * (len(shape) - 1))
        for given in (scale, None):
            torch.testing.assert_close(
                quantized.eval()(x, given), quantized.train()(x), atol=1e-5, rtol=1e-5
            )


def test_too_short_for_a_selector(teacher: Teacher) -> None:
    short = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 6))
    with pytest.raises(ValueError, match="activation_bits: the network has 1 activation sites"):
        build_student(Teacher(short, (3, 8, 8), 6, (0,) * 3, (1,) * 3), Scheme())
    assert build_student(
        Teacher(short, (3, 8, 8), 6, (0,) * 3, (1,) * 3), Scheme(activation_bits=(4,))
    ).sites


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_weight_qparams_per_tensor(make_student: Build, images: Tensor, placement: str) -> None:
    student = make_student(8, placement=placement, weight_granularity="tensor")
    assert all(layer.qparams[0].numel() == 1 for layer in student.layers)
    exact = student(images)
    fake = in_form(student, True)(images)
    assert ((exact - fake).abs().amax(dim=1) < 1e-4).float().mean() > 0.95
    assert not torch.equal(exact, make_student(8, placement=placement)(images))
