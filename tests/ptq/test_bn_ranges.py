"""Ranges from BatchNorm statistics: by hand, folded or not, and refused where nothing is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.bn_ranges import BNRanges
from dynadfq.quant.build import build_student
from dynadfq.quant.insert import Scheme
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import equalize_layers, fold_batch_norms

PLACEMENTS = ("relu_output", "layer_input")


def student_of(teacher: Teacher, sigmas: float = 6.0, placement: str = "relu_output") -> Student:
    student = build_student(teacher, Scheme(4, (4,), 4, placement))  # type: ignore[arg-type]
    BNRanges(sigmas)(student, teacher)
    return student


def ranges(student: Student) -> Tensor:
    return torch.tensor([(site.low.item(), site.high.item()) for site in student.sites])


def test_by_hand(teacher: Teacher) -> None:
    found = ranges(student_of(teacher, sigmas=2.5))
    net = teacher.module
    for site, norm in ((0, net.bn1), (1, net.bn2), (2, net.bn3)):
        assert found[site].tolist() == pytest.approx(
            [0, float((norm.bias + 2.5 * norm.weight).max())]
        )


def test_behind_the_addition_moments_are_summed(teacher: Teacher) -> None:
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
def test_they_hold_what_images_cause(
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
        match=r"1: no BatchNorm statistics reach this site.*dfq\.student\.ranges: images",
    ):
        student_of(teacher)


def test_the_teacher_must_be_what_was_quantized(teacher: Teacher) -> None:
    student = build_student(fold_batch_norms(teacher), Scheme(4, (4,), 4))
    with pytest.raises(
        ValueError, match="network is folded and the teacher's is not; pass the network"
    ):
        BNRanges()(student, teacher)
