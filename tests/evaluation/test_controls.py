"""Controls of a dynamic student: their cost, and what they know."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from dynadfq.evaluation.controls import (
    ceiling,
    ceiling_widths,
    lowest_surviving_bits,
    measure_controls,
    shuffled_control,
    static_widths,
    uniform_predictions,
)
from dynadfq.evaluation.evaluate import Predictions, evaluate
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

LABELS = torch.arange(256) % 6


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


def test_the_control_costs_the_same(student: Student, images: Tensor) -> None:
    _, bits = student.run(images)
    before, rng = bits.clone(), torch.Generator().manual_seed(0)
    control = shuffled_control(student, images.split(100), bits, rng)
    assert torch.equal(bits, before) and not torch.equal(control.bits, bits)
    assert sorted(control.bits.tolist()) == sorted(bits.tolist())
    assert student.bit_flops_percent(control.bits).mean().item() == pytest.approx(
        student.bit_flops_percent(bits).mean().item()
    )
    expected = [
        student.run(images[i : i + 1], BitAllocation(control.bits[i : i + 1]))[0].argmax()
        for i in range(30)
    ]
    assert control.classes[:30].tolist() == [int(p) for p in expected]
    assert not torch.equal(
        shuffled_control(student, images.split(100), bits, rng).bits, control.bits
    )


def test_lowest_surviving_bits_by_definition(
    student: Student, teacher: Teacher, images: Tensor
) -> None:
    widths, expected = (2, 3, 4, 6), teacher(images).argmax(dim=1)
    right = {w: student.run(images, uniform(w, 4))[0].argmax(dim=1) == expected for w in widths}
    by_definition = [
        min((w for w in widths if all(right[v][i] for v in widths if v >= w)), default=0)
        for i in range(len(images))
    ]
    found = uniform_predictions(student, images.split(100), (4, 2, 6, 3, 5))
    measured = lowest_surviving_bits(found, expected, (4, 2, 6, 3))
    assert measured.tolist() == by_definition
    assert len(set(by_definition)) >= 3


def test_static_widths_are_the_most_frequent_of_at_least_the_mean_cost(student: Student) -> None:
    rng = torch.Generator().manual_seed(1)
    bits = torch.randint(3, 6, (50, 4), generator=rng).float()
    bits[:, 0] = 5
    mean = float(student.cost.total(bits).mean())
    step = float(student.cost.per_site.max())
    [found] = static_widths(student, bits).bits.tolist()
    assert mean <= float(student.cost.total(torch.tensor(found))) <= mean + step
    shares = {
        widths: sum(float((bits[:, s] == width).double().mean()) for s, width in enumerate(widths))
        for widths in product([5.0], *[[3.0, 4.0, 5.0]] * 3)
        if mean <= float(student.cost.total(torch.tensor(widths))) <= mean + step
    }
    assert shares[tuple(found)] == pytest.approx(max(shares.values()))


def test_static_widths_of_equal_allocations_are_these(student: Student) -> None:
    bits = torch.tensor([[5.0, 3.0, 4.0, 3.0]]).expand(9, -1)
    assert static_widths(student, bits).bits.tolist() == bits[:1].tolist()


def made_up(student: Student, margins: Tensor) -> dict[int, Predictions]:
    """Predictions that are 3, 4 or 5: the width that they were made with."""
    count = len(margins)
    return {
        width: Predictions(
            torch.full((count,), width), student.uniform(width).bits.expand(count, -1), margins
        )
        for width in ceiling_widths(student)
    }


def test_the_ceiling_gives_the_surest_images_the_fewest_bits(student: Student) -> None:
    rng = torch.Generator().manual_seed(0)
    margins = torch.randperm(40, generator=rng).float()
    found = made_up(student, margins)
    middle = float(student.bit_flops_percent(student.uniform(4).bits))
    expected = torch.full((40,), 4).where(margins >= 12, 5).where(margins < 28, 3)
    best = ceiling(student, found, expected, middle)
    assert ((best.classes == 3) == (margins >= 28)).all()  # 30 %, and as many of the hardest
    assert ((best.classes == 5) == (margins < 12)).all()
    assert torch.equal(best.bits, best.classes[:, None].expand(-1, 4).float())
    halves = ceiling(student, found, torch.where(margins >= 20, 3, 5), middle)
    assert ((halves.classes == 3) == (margins >= 20)).all() and set(halves.classes.tolist()) == {
        3,
        5,
    }


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_the_ceiling_costs_the_mean(student: Student, share: float) -> None:
    lowest, _, highest = (
        float(student.bit_flops_percent(student.uniform(width).bits)) for width in (3, 4, 5)
    )
    mean = lowest + share * (highest - lowest)
    found = made_up(student, torch.arange(40.0))
    for wanted in (3, 4, 5):
        best = ceiling(student, found, torch.full((40,), wanted), mean)
        cost = float(student.bit_flops_percent(best.bits).mean())
        assert mean - 1e-9 <= cost < mean + (highest - lowest) / 40 + 1e-9


def test_a_student_of_one_width_is_its_own_control(
    make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    student = make_student(4)
    own = evaluate(student, [(images, LABELS)], teacher)
    controls = measure_controls(student, [], own, {}, LABELS, seed=0, repeats=3)
    assert controls.static is None and controls.ceiling is None
    assert torch.equal(controls.permuted, own.predictions.expand(3, -1))


def test_controls_do_not_depend_on_batches(student: Student, images: Tensor) -> None:
    found = []
    for size in (64, 100):
        batches = images.split(size)
        own = evaluate(student, zip(batches, LABELS.split(size), strict=True))
        at_width = uniform_predictions(student, batches, ceiling_widths(student))
        found.append(measure_controls(student, batches, own, at_width, LABELS, 0, 2))
    assert torch.equal(found[0].permuted, found[1].permuted)
    for one, other in ((found[0].static, found[1].static), (found[0].ceiling, found[1].ceiling)):
        assert one is not None and other is not None
        assert all(map(torch.equal, one, other))
