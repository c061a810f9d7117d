"""Integer form against the student's own two forms, and against itself in other batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import quantize
from dynadfq.export.conversion_report import unsafe
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.modules import ScaleShift
from dynadfq.export.multiply import CodeLayer
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import fold_batch_norms

Build = Callable[..., Student]
PLACEMENTS = ("relu_output", "layer_input")


def flips(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """Share of images whose bits or logits (beyond 1e-5) differ."""
    other = (ours[0] - theirs[0]).abs().amax(dim=1) > 1e-5
    return float((other | (ours[1] != theirs[1]).any(dim=1)).double().mean())


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("bits", [(3, 4, 5), (2, 8), (4,)])
def test_it_agrees_with_both_forms_but_for_rounding_flips(
    make_student: Build, images: Tensor, placement: str, bits: tuple[int, ...]
) -> None:
    student = make_student(*bits, placement=placement)
    codes = to_integer_form(student)
    ours = codes.run(images)
    assert flips(ours, student.run(images)) <= 0.02
    student.train()
    if student.selector is not None:
        student.selector.eval()
    with torch.no_grad():
        assert flips(ours, student.run(images)) <= 0.05
    assert len(ours[1].unique(dim=0)) > (5 if student.scheme.dynamic else 0)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_images_result_does_not_depend_on_its_batch(
    make_student: Build, images: Tensor, placement: str
) -> None:
    codes = to_integer_form(make_student(placement=placement))
    logits, bits = codes.run(images)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    for size in (1, 7, 64):
        parts = [codes.run(batch) for batch in images[order].split(size)]
        assert torch.equal(torch.cat([part for part, _ in parts]), logits[order])
        assert torch.equal(torch.cat([used for _, used in parts]), bits[order])
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(codes(strided), logits)


def test_frozen_weights_qparams_per_tensor_and_folded_networks(
    make_student: Build, teacher: Teacher, images: Tensor
) -> None:
    rounded = make_student(4)
    squant_rounding(rounded, teacher, None, 0)  # type: ignore[arg-type]
    tensor = make_student(weight_granularity="tensor")
    folded = quantize(fold_batch_norms(teacher), activation_bits=4)
    calibrate(folded, images.split(64), extremes)
    for student in (rounded, tensor, folded):
        assert flips(to_integer_form(student).run(images), student.run(images)) <= 0.02


def test_accumulators_are_whole_numbers_within_the_bound_that_is_reported(
    make_student: Build, images: Tensor
) -> None:
    codes = to_integer_form(make_student())
    bounds = {fact.name: fact.largest_sum for fact in codes.facts if fact.exact}
    assert list(bounds) == ["conv2", "conv3", "conv4"]
    layers = {
        name: module
        for name, module in codes.network.named_modules()
        if isinstance(module, CodeLayer)
    }
    assert layers.keys() == bounds.keys()
    seen: list[str] = []

    def look(layer: CodeLayer, inputs: tuple[Tensor, Tensor]) -> None:
        name = next(name for name, module in layers.items() if module is layer)
        assert torch.equal(inputs[0], inputs[0].round())
        sums, bound = layer.sums(inputs[0]), bounds[name]
        assert (
            bound is not None
            and torch.equal(sums, sums.round())
            and sums.abs().max() <= bound < 2**24
        )
        largest = (
            31
            * (layer.weight.codes.double() - layer.weight.zero_point)
            .abs()
            .flatten(1)
            .sum(dim=1)
            .max()
        )
        assert bound == largest
        seen.append(name)

    for layer in layers.values():
        layer.register_forward_pre_hook(look)
    codes(images)
    assert seen == list(bounds)


def test_a_layer_whose_sums_float32_cannot_hold_is_named_and_summed_in_float64(
    make_student: Build, images: Tensor
) -> None:
    student = make_student()
    conv, linear = student.layers[1], student.layers[2]
    for layer in (conv, linear):
        scale, _ = layer.qparams
        lowest = torch.full_like(scale, 12000.0)
        codes = lowest + torch.randint(
            0, 16, layer.weight.shape, generator=torch.Generator().manual_seed(0)
        )
        layer.freeze_weight(codes, (scale * 1e-5, lowest))
    converted = to_integer_form(student)
    facts = {fact.name: fact for fact in converted.facts}
    assert facts["conv2"].form == "wide integer" and "float32" in facts["conv2"].reason
    assert facts["conv2"].largest_sum is not None and facts["conv2"].largest_sum > 2**24
    assert facts["conv4"].form == "integer" and not facts["conv4"].reason
    assert flips(converted.run(images), student.run(images)) <= 0.02
    assert torch.equal(
        torch.cat([converted(batch) for batch in images.split(5)]), converted(images)
    )


def test_a_wider_allocation_needs_wider_sums(make_student: Build, images: Tensor) -> None:
    student = make_student()
    codes, wider = to_integer_form(student), to_integer_form(student, widest=8)
    with pytest.raises(
        ValueError, match=r"8 bits, but sums are exact up to 5 bits; to_integer_form\(widest=8\)"
    ):
        codes.run(images, uniform(8, 4))
    assert flips(wider.run(images, uniform(8, 4)), student.run(images, uniform(8, 4))) <= 0.02
    assert torch.equal(wider(images), codes(images))
    sums = [{fact.name: fact.largest_sum for fact in form.facts} for form in (codes, wider)]
    assert sums[1]["conv2"] == pytest.approx(sums[0]["conv2"] * 255 / 31)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("bits", "multiplier", "message"),
    [
        (uniform(1, 4), None, "allocation: 1 bits are fewer than 2"),
        (
            uniform(4, 5),
            None,
            "allocation: 5 widths per image for 4 sites; give one width per site",
        ),
        (uniform(9, 4), None, "9 bits, but sums are exact up to 5 bits$"),
        (None, math.nan, "multiplier: nan is not a finite number"),
        (None, math.inf, "multiplier: inf is not a finite number"),
    ],
)
def test_what_it_cannot_compute_is_refused(
    make_student: Build,
    images: Tensor,
    bits: BitAllocation | None,
    multiplier: float | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        to_integer_form(make_student()).run(images[:2], bits, multiplier)


def test_a_fixed_width_has_no_multiplier_and_nine_bits_no_sums(
    make_student: Build, images: Tensor
) -> None:
    with pytest.raises(
        ValueError,
        match=r"multiplier: this student has a fixed width, 4 bits, and no bit selector; got 0\.5",
    ):
        to_integer_form(make_student(4)).run(images[:2], multiplier=0.5)
    with pytest.raises(ValueError, match="widest: 16 is outside 2 … 8"):
        to_integer_form(make_student(), widest=16)


def test_a_range_without_zero_is_named(make_student: Build) -> None:
    student = make_student()
    with torch.no_grad():
        student.sites[0].low.fill_(0.5)
    reasons = {fact.name: fact.reason for fact in to_integer_form(student).facts}
    assert reasons["conv2"] == "0.0 is outside its input's range, so padding is not exact"
    assert not reasons["conv3"]


def test_a_given_allocation_takes_the_place_of_the_selectors(
    make_student: Build, images: Tensor
) -> None:
    student = make_student()
    codes = to_integer_form(student)
    logits, bits = codes.run(images)
    again, used = codes.run(images, BitAllocation(bits))
    assert torch.equal(again, logits) and torch.equal(used, bits)
    narrow, used = codes.run(images, uniform(3, 4))
    assert (used == 3).all() and used.shape == bits.shape
    assert flips((narrow, used), student.run(images, uniform(3, 4))) <= 0.02


@pytest.mark.parametrize("multiplier", [-2.0, 0.5, 1e6])
def test_the_multiplier(make_student: Build, images: Tensor, multiplier: float) -> None:
    student = make_student()
    at_zero = to_integer_form(student)
    student.multiplier = multiplier
    turned = to_integer_form(student)
    assert torch.equal(turned.run(images)[1], student.run(images)[1])
    for ours, theirs in zip(
        turned.run(images), at_zero.run(images, multiplier=multiplier), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not torch.equal(turned.run(images)[1], at_zero.run(images)[1])


def test_the_student_is_not_touched(make_student: Build, images: Tensor) -> None:
    student = make_student()
    before, graph = student(images), str(student.network.graph)
    to_integer_form(student)(images)
    assert torch.equal(student(images), before) and str(student.network.graph) == graph


class Unusual(nn.Module):
    """BatchNorm before its layer, a functional one, a layer called twice, pools, an average and an
    exponential."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.behind = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.twice = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.swish = nn.SiLU()
        self.pool, self.max = nn.AvgPool2d(2), nn.MaxPool2d(2)
        self.last = nn.Conv2d(8, 8, 2, padding="same", bias=False)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)).relu() + 1)
        x = self.max(self.swish(self.twice(self.twice(x))))
        y = self.last(x)
        y = F.batch_norm(
            y,
            self.behind.running_mean,
            self.behind.running_var,
            self.behind.weight,
            self.behind.bias,
        )
        x = self.pool(F.relu(y + x))
        logits: Tensor = self.fc(F.relu(x).mean((2, 3)))
        return logits


@pytest.fixture
def unusual(images: Tensor) -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Unusual().eval()
        for norm in (module.norm, module.behind):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
    student = quantize(Teacher(module, (3, 8, 8), 6, (0,) * 3, (1,) * 3), activation_bits=(4, 6))
    calibrate(student, images.split(64), extremes)
    return student


def test_networks_as_people_write_them(unusual: Student, images: Tensor) -> None:
    codes = to_integer_form(unusual)
    assert flips(codes.run(images), unusual.run(images)) <= 0.03
    forms = {fact.name: fact.form for fact in codes.facts}
    assert forms["last"] == "integer" and forms["twice"] == "float64" and not unsafe(codes.facts)
    assert [fact.form for fact in codes.facts if fact.name.startswith("twice")] == [
        "integer",
        "float64",
    ]
    assert not [
        module
        for module in codes.network.modules()
        if isinstance(module, (ScaleShift, nn.BatchNorm2d))
    ]
    for size in (1, 3):
        assert torch.equal(
            torch.cat([codes(batch) for batch in images[:30].split(size)]), codes(images[:30])
        )


def test_a_batch_norm_without_a_layer_before_it_is_one_multiplication_and_one_addition(
    images: Tensor,
) -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv, self.fc = nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.conv(self.norm(x).relu()).relu().mean((2, 3)).exp())
            return y

    student = quantize(Teacher(Before(), (3, 8, 8), 6, (0,) * 3, (1,) * 3), activation_bits=4)
    calibrate(student, [images], extremes)
    codes: IntegerForm = to_integer_form(student)
    assert [type(module).__name__ for module in codes.network.modules()].count("ScaleShift") == 1
    assert [str(fact) for fact in unsafe(codes.facts)] == ["exp: float32 (exp is not converted)"]
    assert flips(codes.run(images), student.run(images)) <= 0.02


def test_a_batch_norm_that_two_layers_share_is_converted_after_both(images: Tensor) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.first(x)).relu()
            x = self.norm(self.second(x) + 1).relu()
            y: Tensor = self.fc(x.amax((2, 3)))
            return y

    student = quantize(Teacher(Shared(), (3, 8, 8), 6, (0,) * 3, (1,) * 3), activation_bits=4)
    calibrate(student, [images], extremes)
    codes = to_integer_form(student)
    assert not unsafe(codes.facts)
    assert flips(codes.run(images), student.run(images)) <= 0.02
