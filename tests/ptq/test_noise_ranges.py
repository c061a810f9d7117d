"""SQuant's activation ranges: deviations of activations of noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadfq.ptq.noise_ranges import noise_range, noise_sigma_ranges, noise_sigmas, setting_at_sight
from dynadfq.ptq.preparation import in_order
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]


def ranges(student: Student) -> list[tuple[float, float]]:
    return [(site.low.item(), site.high.item()) for site in student.sites]


def normal(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_what_is_never_negative_has_a_range_from_its_positive_values() -> None:
    x = normal(10000).relu()
    positive = x[x > 0]
    assert noise_range(x, 8) == (0.0, pytest.approx(25 * positive.std().item(), rel=1e-3))
    assert noise_range(x, 6) == (0.0, pytest.approx(14 * positive.std().item(), rel=1e-3))
    assert noise_range(x, 4) == (0.0, x.max().item())
    spread = torch.cat([x, torch.full((1,), 1000.0)])
    assert noise_range(spread, 4)[1].item() == pytest.approx(
        12 * spread[spread > 0].std().item(), rel=1e-3
    )


def test_what_has_negative_values_has_a_symmetric_range_from_all() -> None:
    x = normal(10000) - 0.5
    low, high = noise_range(x, 8)
    assert low == -high and high.item() == pytest.approx(25 * x.std().item() / 1.25, rel=1e-3)
    assert noise_range(x, 4)[1] == x.abs().max()


def test_what_is_zero_has_no_range() -> None:
    assert noise_range(torch.zeros(5), 4) == (0.0, 0.0)
    assert noise_range(torch.tensor([0.0, 2.0]), 4) == (0.0, 0.0)


def test_deviations_grow_with_the_width() -> None:
    found = [noise_sigmas(bits) for bits in range(2, 9)]
    assert found == sorted(found)


def test_a_range_is_measured_behind_quantized_sites(
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
    assert ranges(student) == found  # as they depend on neither chance nor what they were before
    floating = make_student(3)
    with (
        floating.unquantized(),
        setting_at_sight(floating, lambda x: noise_range(x, 3)),
        torch.no_grad(),
    ):
        floating(batch)
    assert ranges(floating)[0] != found[0] and ranges(floating)[1:] != found[1:]


@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_rounding_first_changes_what_is_measured(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, widths: tuple[int, ...]
) -> None:
    one, other = make_student(*widths), make_student(*widths)
    noise_sigma_ranges(one, teacher, synthetic, 0)
    in_order(squant_rounding, noise_sigma_ranges)(other, teacher, synthetic, 0)
    assert ranges(one) != ranges(other)
    assert all(site.observer is None for site in other.sites)
    assert all(site.low.requires_grad and site.low.grad_fn is None for site in other.sites)
