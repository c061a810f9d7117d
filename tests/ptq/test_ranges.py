"""Activation ranges from BatchNorm statistics and from noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.preparation import in_order
from dynadfq.ptq.ranges import (
    bn_sigma_ranges,
    noise_range,
    noise_sigma_ranges,
    noise_sigmas,
    setting_ranges,
)
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.build import build_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import equalize_layers, fold_batch_norms

Build = Callable[..., Student]
PLACEMENTS = ("relu_output", "layer_input")


def ranges(student: Student) -> Tensor:
    """The (S, 2) low and high of each site."""
    return torch.tensor([(site.low.item(), site.high.item()) for site in student.sites])


def student_of(teacher: Teacher, sigmas: float = 6.0, placement: str = "relu_output") -> Student:
    student = build_student(
        teacher, Scheme(weight_bits=4, activation_bits=(4,), target_bits=4, placement=placement)
    )  # type: ignore[arg-type]
    bn_sigma_ranges(student, teacher, sigmas=sigmas)
    return student


def test_bn_ranges_by_hand(teacher: Teacher) -> None:
    found = ranges(student_of(teacher, sigmas=2.5))
    net = teacher.module
    for site, norm in ((0, net.bn1), (1, net.bn2), (2, net.bn3)):
        assert found[site].tolist() == pytest.approx(
            [0, float((norm.bias + 2.5 * norm.weight).max())]
        )


def test_after_an_addition_moments_are_summed(teacher: Teacher) -> None:
    net = teacher.module
    beta, gamma = net.bn2.bias, net.bn2.weight
    samples = (
        beta + gamma * torch.randn(1_000_000, 12, generator=torch.Generator().manual_seed(0))
    ).relu()
    mean = samples.mean(dim=0) + net.bn4.bias
    std = (samples.var(dim=0) + net.bn4.weight.square()).sqrt()
    assert ranges(student_of(teacher, 3.0))[3, 1].item() == pytest.approx(
        float((mean + 3 * std).max()), rel=0.01
    )


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_folded_network_has_the_ranges_of_the_unfolded(teacher: Teacher, placement: str) -> None:
    plain = ranges(student_of(teacher, placement=placement))
    folded = ranges(student_of(fold_batch_norms(teacher), placement=placement))
    torch.testing.assert_close(folded, plain)
    wider = ranges(student_of(teacher, 12.0, placement))
    assert (wider[:, 1] > 1.4 * plain[:, 1]).all()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("equalized", [False, True])
def test_bn_ranges_contain_the_activations_of_images(
    teacher: Teacher, images: Tensor, placement: str, equalized: bool
) -> None:
    changed = equalize_layers(fold_batch_norms(teacher)) if equalized else teacher
    student = student_of(changed, placement=placement)
    inside: list[Tensor] = []

    def watch(site: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        inside.append(((inputs[0] >= site.low) & (inputs[0] <= site.high)).float().mean())

    for site in student.sites:
        site.register_forward_hook(watch)
    with student.unquantized():
        student(images)
    assert len(inside) == len(student.sites) and min(inside) > 0.999


def test_a_network_without_statistics_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 6))
    teacher = Teacher(net, (3, 8, 8), 6, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(
        ValueError,
        match=r"1: no BatchNorm statistics reach this site.*dfq's ranges to images",
    ):
        student_of(teacher)


def test_the_teacher_must_be_the_quantized_network(teacher: Teacher) -> None:
    student = build_student(
        fold_batch_norms(teacher), Scheme(weight_bits=4, activation_bits=(4,), target_bits=4)
    )
    with pytest.raises(ValueError, match="the teacher's is not folded; pass the network"):
        bn_sigma_ranges(student, teacher)


def normal(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_nonnegative_values_have_a_range_from_the_positive_ones() -> None:
    x = normal(10000).relu()
    positive = x[x > 0]
    assert noise_range(x, 8) == (0.0, pytest.approx(25 * positive.std().item(), rel=1e-3))
    assert noise_range(x, 6) == (0.0, pytest.approx(14 * positive.std().item(), rel=1e-3))
    assert noise_range(x, 4) == (0.0, x.max().item())
    spread = torch.cat([x, torch.full((1,), 1000.0)])
    assert noise_range(spread, 4)[1].item() == pytest.approx(
        12 * spread[spread > 0].std().item(), rel=1e-3
    )


def test_values_of_both_signs_have_a_symmetric_range() -> None:
    x = normal(10000) - 0.5
    low, high = noise_range(x, 8)
    assert low == -high and high.item() == pytest.approx(25 * x.std().item() / 1.25, rel=1e-3)
    assert noise_range(x, 4)[1] == x.max() < x.abs().max()
    hard_swish = torch.tensor([-0.375, -0.2, 0.0, 0.1, 0.2])
    assert noise_range(hard_swish, 4) == (-hard_swish.max(), hard_swish.max())
    assert noise_range(hard_swish - 0.3, 4)[1] == torch.tensor(0.675)  # none is positive


def test_zeros_have_an_empty_range() -> None:
    assert noise_range(torch.zeros(5), 4) == (0.0, 0.0)
    assert noise_range(torch.tensor([0.0, 2.0]), 4) == (0.0, 0.0)


def test_standard_deviations_grow_with_the_width() -> None:
    found = [noise_sigmas(bits) for bits in range(2, 9)]
    assert found == sorted(found)


def test_a_noise_range_is_measured_after_quantized_sites(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet
) -> None:
    student, seen = make_student(3), {}
    noise_sigma_ranges(student, teacher, synthetic, 0)
    found = ranges(student)
    batch = synthetic.take(torch.arange(24)).images
    for number, name in enumerate(["conv2", "conv3", "conv4"]):
        student.network.get_submodule(name).register_forward_pre_hook(
            lambda _m, inputs, number=number: seen.update({number: inputs[0].unique().numel()})
        )
    student(batch)
    assert all(count <= 8 for count in seen.values()) and len(seen) == 3
    noise_sigma_ranges(student, teacher, synthetic, 1)
    assert torch.equal(ranges(student), found)  # neither chance nor earlier ranges matter
    floating = make_student(3)
    with (
        floating.unquantized(),
        setting_ranges(floating, noise_range),
        torch.no_grad(),
    ):
        floating(batch)
    assert (ranges(floating) != found).any(dim=1).tolist() == [True] * 4


@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_rounding_first_changes_what_is_measured(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, widths: tuple[int, ...]
) -> None:
    one, other = make_student(*widths), make_student(*widths)
    noise_sigma_ranges(one, teacher, synthetic, 0)
    in_order(squant_rounding, noise_sigma_ranges)(other, teacher, synthetic, 0, Scratch(None))
    assert not torch.equal(ranges(one), ranges(other))
    assert all(site.observer is None for site in other.sites)
    assert all(site.low.requires_grad and site.low.grad_fn is None for site in other.sites)
