"""Evaluation by several ranks is that of one process, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ranks import run_ranks
from torch import Tensor

from dynadfq.evaluation.evaluate import evaluate, predict
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.teacher.teacher import Teacher

LABELS = torch.arange(256) % 6


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_measure_what_one_process_does(
    ranks: int, make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    student = make_student()
    batches = list(
        zip(images.split(100), LABELS.split(100), strict=True)
    )  # three, so that a rank may have none over
    given = torch.tensor([3.0, 5.0, 4.0])[torch.arange(256) % 3, None].expand(-1, 4)

    def work() -> tuple[object, ...]:
        found = evaluate(student, iter(batches), teacher)
        assert found.teacher is not None
        return (
            found.per_image,
            found.bits,
            found.teacher.co_occurrence,
            predict(student, images.split(100), given),
        )

    [(table, bits, together, answers)] = run_ranks(1, work)
    assert together.sum() == pytest.approx(1.0, abs=1e-4)
    for rank in run_ranks(ranks, work):
        assert rank[0].equals(table)
        assert torch.equal(rank[1], bits) and torch.equal(rank[2], together)
        assert all(map(torch.equal, rank[3], answers))


def test_each_batch_is_computed_by_one_rank(
    monkeypatch: pytest.MonkeyPatch,
    make_student: Callable[..., Student],
    teacher: Teacher,
    images: Tensor,
) -> None:
    student = make_student()
    seen: list[int] = []
    look = Teacher.__call__
    monkeypatch.setattr(Teacher, "__call__", lambda self, x: seen.append(len(x)) or look(self, x))

    def work() -> tuple[int, list[int]]:
        evaluate(student, ((batch, None) for batch in images.split(60)), teacher)
        return distributed.rank(), seen

    assert run_ranks(2, work) == [(0, [60, 60, 16]), (1, [60, 60])]


def test_more_ranks_than_batches(
    make_student: Callable[..., Student], teacher: Teacher, images: Tensor
) -> None:
    student = make_student()
    [alone] = run_ranks(1, lambda: evaluate(student, [(images[:9], None)], teacher).per_image)
    assert all(
        table.equals(alone)
        for table in run_ranks(
            2, lambda: evaluate(student, [(images[:9], None)], teacher).per_image
        )
    )
