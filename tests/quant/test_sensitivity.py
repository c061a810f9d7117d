from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student
from dynadfq.quant.sensitivity import divergence, passes, site_sensitivity
from dynadfq.runtime.progress import Progress
from dynadfq.teacher.teacher import Teacher

WIDTHS = (3, 4, 5)


class Table:
    """A measured table of 20 images in batches of 12 and 8, and what it was measured on."""

    def __init__(self, student: Student, teacher: Teacher, images: Tensor) -> None:
        self.student, self.images, self.expected = student, images[:20], teacher(images[:20])
        self.fixed = len(student.sites) - student.dynamic_sites
        self.progress = Progress("sensitivity", 2 * passes(student))
        with self.progress:
            self.values = site_sensitivity(
                student, teacher, self.images.split([12, 8]), self.progress
            )

    def divergence(self, dynamic: list[float]) -> Tensor:
        """With these widths at the sites that the selector chooses for, and the widest before."""
        bits = torch.tensor([[WIDTHS[-1]] * self.fixed + dynamic])
        return divergence(self.expected, self.student.run(self.images, BitAllocation(bits))[0])


@pytest.fixture(params=["relu_output", "layer_input"])
def table(
    make_student: Callable[..., Student],
    teacher: Teacher,
    images: Tensor,
    request: pytest.FixtureRequest,
) -> Table:
    return Table(make_student(*WIDTHS, placement=request.param), teacher, images)


def test_divergence_is_torchs() -> None:
    p, q = 4 * torch.randn(2, 30, 6, generator=torch.Generator().manual_seed(0))
    log_p, log_q = p.double().log_softmax(dim=1), q.double().log_softmax(dim=1)
    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(
        dim=1
    )
    torch.testing.assert_close(divergence(p, q), expected)
    assert (divergence(p, q) > 0).all()
    assert (divergence(p, p) == 0).all() and (divergence(p, p + 3) < 1e-12).all()
    assert not torch.allclose(divergence(p, q), divergence(q, p))


def test_divergence_by_hand() -> None:
    teacher, student = (
        torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log(),
        torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log(),
    )
    expected = 0.8 * torch.tensor(1.6).log() + 0.2 * torch.tensor(0.4).log()
    assert divergence(teacher, student).tolist() == pytest.approx([expected.item(), 0], abs=1e-7)


def test_sites_before_the_selector_have_the_width_that_they_always_have(table: Table) -> None:
    assert table.fixed > 0
    used = table.student.run(table.images)[1]
    assert (used[:, : table.fixed] == WIDTHS[-1]).all()


def test_the_targets_column_has_the_target_where_widths_are_chosen(table: Table) -> None:
    expected = table.divergence([4.0] * table.student.dynamic_sites)
    assert table.values.shape == (20, table.student.dynamic_sites, 3)
    column = table.values[:, :, WIDTHS.index(4)]
    assert torch.equal(column, column[:, :1].expand_as(column))
    torch.testing.assert_close(column[:, 0], expected, atol=1e-6, rtol=1e-4)


def test_a_column_is_the_forward_pass_with_that_site_changed(table: Table) -> None:
    sites = table.student.dynamic_sites
    for site in range(sites):
        for column, width in enumerate(WIDTHS):
            expected = table.divergence([4.0] * site + [float(width)] + [4.0] * (sites - 1 - site))
            torch.testing.assert_close(
                table.values[:, site, column], expected, atol=1e-6, rtol=1e-4
            )
    target = table.values[:, :, 1:2]
    changed = (table.values[:, :, [0, 2]] - target).abs().mean(dim=0) > 1e-4
    assert changed.any(dim=1).sum() >= 3  # widths do matter here


def test_divergences_are_never_negative_and_every_pass_is_counted(table: Table) -> None:
    assert (table.values >= 0).all() and torch.isfinite(table.values).all()
    assert table.progress.done == table.progress.total == 2 * (1 + 2 * table.student.dynamic_sites)


def test_measuring_changes_nothing(
    make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    student = make_student()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    answer = student.run(images[:20])
    first = Table(student.train(), teacher, images).values
    assert not student.training and not first.requires_grad
    assert torch.equal(Table(student, teacher, images).values, first)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(student.run(images[:20]), answer, strict=True))
