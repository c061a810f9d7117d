"""The study of selectors: what a mixture costs and gains, thresholds, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.selectors import __main__ as command
from benchmarks.selectors import measured
from benchmarks.selectors.learners import LEARNERS
from benchmarks.selectors.measured import least_divergence, measure, percent, scaled
from benchmarks.selectors.mixtures import affordable, followed, gains, thresholded
from dynadfq.evaluation.controls import by_rank
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

SHARE = 0.2
# Multiplications for an activation of 4 × 8 × 8 and two classes. The heads pool it to 4 × 4 first.
MACS = {
    "margin, ridge regression": 7 * 4,
    "policy (VideoIQ)": 7 * 4 * 64 + 64 * 3,
    "exit head, linear": 4 * 2,
    "exit head, 2 convolutions": 4 * 9 * 32 * 2 * 2 + 32 * 9 * 64 + 64 * 2,
}


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Decisions of the tests' network, which is shorter than ResNet-20."""
    found = {"early": 0, "late": 1}
    for module in (measured, command):
        monkeypatch.setattr(module, "DECISIONS", found)
    return found


@pytest.mark.parametrize("overhead", [0.0, 0.013, 0.05])
@pytest.mark.parametrize("paid", [1.0, 1.7])
def test_a_mixture_costs_as_much_as_the_middle_width(paid: float, overhead: float) -> None:
    lowest, highest = affordable(1000, SHARE, 1.0, paid, overhead) or (0, 0)
    spent = highest * paid - lowest * 1.0 + 1000 * overhead
    assert -paid < spent <= 1e-9  # one more image at the highest width would exceed it


def test_a_selector_that_costs_what_it_saves_is_not_affordable() -> None:
    assert affordable(1000, SHARE, 1.0, 1.0, SHARE) == (200, 0)
    assert affordable(1000, SHARE, 1.0, 1.0, SHARE + 0.01) is None


def test_gains_worked_out_by_hand() -> None:
    # The first of four images is right at the lowest width alone, the last at the highest alone.
    right = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    to_middle, to_permuted = gains(right, by_rank(torch.arange(4.0).flip(0), 1, 1), seed=0)
    assert (to_middle.gained, to_middle.lost) == (2, 0)
    assert to_middle.difference == 50.0
    # A permutation has image 0 at the lowest width in 1 of 4, image 3 at the highest in 1 of 4 and
    # image 1 at the middle one in 2 of 4: one image of four is right on average.
    assert to_permuted.difference == pytest.approx(75.0 - 25.0, abs=15.0)


def test_equal_widths_gain_nothing() -> None:
    right = (torch.arange(50) % 3 == 0).expand(3, -1)
    for compared in gains(right, by_rank(torch.arange(50.0), 10, 10), seed=0):
        assert compared.difference == 0.0
        assert compared.p_value == 1.0


def test_thresholds_at_the_quantiles_choose_the_images_of_a_rank() -> None:
    scores = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(thresholded(scores, (199.5, 799.5)), by_rank(scores, 200, 200))


def test_thresholds_follow_a_stream_whose_scores_move() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, generator=rng) + 2.0
    wrong = (-0.84, 0.84)  # the quantiles of a normal distribution of mean 0
    assert float((thresholded(scores, wrong) == 0).double().mean()) > 0.8
    late = followed(scores, wrong, SHARE)[2000:]
    for width in (0, 2):
        assert float((late == width).double().mean()) == pytest.approx(SHARE, abs=0.03)


def test_a_threshold_does_not_know_later_images() -> None:
    scores = torch.randn(100, generator=torch.Generator().manual_seed(0))
    changed = torch.cat([scores[:60], scores[60:] + 5])
    bounds = (-0.84, 0.84)
    ours, theirs = (followed(one, bounds, SHARE) for one in (scores, changed))
    assert torch.equal(ours[:60], theirs[:60])
    assert not torch.equal(ours, theirs)


def test_what_is_measured_is_what_the_student_answers(
    decisions: dict[str, int],
    make_student: Callable[..., Student],
    teacher: Teacher,
    images: Tensor,
) -> None:
    student = make_student(3, 4, 5)
    batches = images[:24].split(8)
    found = measure(student, teacher, batches, factor=0.8)
    again = measure(student, teacher, images[:24].split(24), factor=0.8)
    for name, site in decisions.items():
        bits = torch.full((1, len(student.sites)), 4.0)
        bits[:, site + 1 :] = 5
        expected = student.run(images[:24], BitAllocation(bits))[0]
        torch.testing.assert_close(found[f"{name}:5"], expected)
        torch.testing.assert_close(again[f"{name}:5"], expected)
        before = [(one.low.clone(), one.high.clone()) for one in student.sites]
        with scaled(student, 0.8):
            same_site = student.run(images[:24], BitAllocation(bits))[0]
            for one, bounds in list(zip(student.sites, before, strict=True))[: site + 1]:
                one.set_range(*bounds)  # scaled after the decision alone
            bits[:, site + 1 :] = 3
            at_3_bits = student.run(images[:24], BitAllocation(bits))[0]
        assert not torch.equal(same_site, expected)  # ranges count
        torch.testing.assert_close(found[f"{name}:3"], at_3_bits)
        torch.testing.assert_close(again[f"{name}:3"], at_3_bits)
        bits[:, site + 1 :] = 5
        low, middle, high = percent(student, name)
        assert low < middle < high
        assert high == pytest.approx(float(student.bit_flops_percent(bits)))
    torch.testing.assert_close(found["4"], student.run(images[:24], student.uniform(4))[0])


def test_another_network_seed_or_code_has_a_folder_of_its_own(
    make_net: Callable[[], nn.Module],
    teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def folder(network: Teacher, seed: int = 0) -> Path:
        return command.work_folder(tmp_path, network, seed)

    trained = make_net()
    with torch.no_grad():
        next(trained.parameters()).mul_(1.5)
    changed = Teacher(trained, **teacher.arguments())
    before = folder(teacher)
    assert folder(teacher) == before
    others = {folder(changed), folder(teacher, seed=1)}
    for part in ("library_digest", "digest"):
        with monkeypatch.context() as patch:
            patch.setattr(command, part, lambda *_: "after an edit")
            others.add(folder(teacher))
    assert len(others | {before}) == 5


def test_what_is_kept_is_of_the_same_images(tmp_path: Path) -> None:
    def failing() -> dict[str, Tensor]:
        raise RuntimeError("stop")

    stem, images = tmp_path / "work" / "val", torch.arange(6.0).reshape(2, 3)
    with pytest.raises(RuntimeError, match="stop"):
        command.kept(stem, images, failing)
    made = command.kept(stem, images, lambda: {"4": images})
    again = command.kept(stem, images.clone(), failing)  # read, not made
    assert torch.equal(made["4"], images) and torch.equal(again["4"], images)
    for other in (images + 1, images[:1]):
        found = command.kept(stem, other, partial(dict, {"4": other}))
        assert torch.equal(found["4"], other)
    assert len(list(stem.parent.iterdir())) == 3  # and no temporary file


def test_ranges_are_restored(make_student: Callable[..., Student]) -> None:
    student = make_student(3, 4, 5)
    before = [site.high.clone() for site in student.sites]
    with pytest.raises(RuntimeError, match="stop"), scaled(student, 0.5):
        assert torch.equal(student.sites[0].high, 0.5 * before[0])
        raise RuntimeError("stop")
    assert all(torch.equal(site.high, one) for site, one in zip(student.sites, before, strict=True))


def test_the_factor_is_the_one_of_least_divergence(
    make_student: Callable[..., Student], images: Tensor
) -> None:
    student = make_student(3, 4, 5)
    with scaled(student, 0.75), torch.no_grad():
        itself = student.run(images, student.uniform(3))[0]
    assert least_divergence(student, images, itself) == 0.75


@pytest.mark.parametrize("name", LEARNERS)
def test_a_selector_learns_what_its_activation_shows(name: str) -> None:
    # The first channel says which of two classes an image has, or that it has none of them.
    rng = torch.Generator().manual_seed(0)
    kind = torch.randint(3, (192,), generator=rng)
    activation = torch.rand(192, 4, 8, 8, generator=rng)
    activation[:, 0] += kind[:, None, None].float()
    activation[:, 1] += 2 * (kind == 1)[:, None, None].float()
    sure = 6 * torch.nn.functional.one_hot(kind.clamp(max=1), 2).float()
    doubtful = (kind == 2)[:, None]
    logits = torch.where(doubtful, torch.zeros(()), sure)
    high = 6 * torch.nn.functional.one_hot(kind % 2, 2).float()
    images = {"teacher": torch.where(doubtful, 0.01 * high, sure), "4": logits}
    images |= {"here": activation.half(), "here:3": logits, "here:5": high}
    on_source, scores, macs = LEARNERS[name](images, images, "here")
    torch.testing.assert_close(on_source, scores)
    assert scores[kind < 2].mean() > scores[kind == 2].mean() + scores.std()
    assert macs == MACS[name]


def test_a_selector_pays_for_itself_with_images_at_5_bits(
    decisions: dict[str, int],
    make_student: Callable[..., Student],
    teacher: Teacher,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scores(macs: int, learn: dict[str, Tensor], *_: Any) -> tuple[Tensor, Tensor, int]:
        return torch.arange(256.0), torch.arange(256.0), macs

    def spied(right: Tensor, columns: Tensor, seed: int) -> Any:
        chosen.append(columns.bincount(minlength=3))
        return gains(right, columns, seed)

    chosen: list[Tensor] = []
    learners = {"free": partial(scores, 0), "dear": partial(scores, 500)}
    monkeypatch.setattr(command, "LEARNERS", learners)
    monkeypatch.setattr(command, "gains", spied)
    student, labels = make_student(3, 4, 5), teacher(images).argmax(dim=1)
    test = measure(student, teacher, [images], factor=1.0)
    found = list(command.rows(test, labels, student, {"synthetic": test}))
    rows = {
        (row["decision"], row["selector"], row["share"]): (row, counts)
        for row, counts in zip(found, chosen, strict=True)
    }
    assert len(rows) == len(found) == len(decisions) * 3 * len(command.SHARES)
    for decision in decisions:
        costs = torch.tensor(percent(student, decision), dtype=torch.float64)
        for share in command.SHARES:
            (free, most), (dear, fewer) = (rows[decision, name, share] for name in learners)
            assert most[0] == fewer[0] == round(share * 256) and fewer[2] < most[2]
            overhead = 100 * 500 * 4 * 4 / student.cost.float_total  # at 4 bits
            assert (free["overhead_percent"], dear["overhead_percent"]) == (0, overhead)
            for kind in ("fixed_thresholds_percent", "followed_thresholds_percent"):
                assert dear[kind] - free[kind] == pytest.approx(overhead)
            for counts, paid in ((most, 0.0), (fewer, overhead)):
                spent = float((counts * costs).sum()) / 256 + paid
                assert costs[1] - (costs[2] - costs[1]) / 256 < spent <= costs[1] + 1e-6
