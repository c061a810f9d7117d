"""Accuracy against cost along the budget: one trained student at many budgets, beside the same bits
at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.evaluation.evaluate import answer, percent_equal, shuffled_control
from dynadfq.quant.model import Student
from dynadfq.runtime import seeding
from dynadfq.synthesis.dataset import SyntheticSet


def columns(score: str) -> list[str]:
    """The columns of a budget's table; ``score`` is "top1" or "agreement".

    >>> columns("top1")[5:8]
    ['top1', 'control_top1', 'gained']
    """
    costs = [
        "budget",
        "multiplier",
        "synthetic_bit_flops_percent",
        "bit_flops_percent",
        "mean_bits",
    ]
    return [*costs, score, f"control_{score}", "gained", "lost", "allocations"]


@contextmanager
def keeping_multiplier(student: Student) -> Iterator[None]:
    """Put the budget back where it stood, whatever happens in this block."""
    before = student.multiplier
    try:
        yield
    finally:
        student.multiplier = before


def budget_table(
    student: Student,
    synthetic: SyntheticSet,
    images: Iterable[Tensor],
    expected: Tensor,
    budgets: int,
    seed: int,
    batch_size: int,
    score: str = "top1",
) -> pd.DataFrame:
    """One row a budget, evenly spread from the cheapest to the dearest; each is set on synthetic
    images.

    Columns, costs in percent of the float model: the ``budget``, its ``multiplier``, the mean cost
    of the synthetic images and of the measured ``images`` ((B, C, H, W) batches, walked twice a
    budget), their mean bits, the percent of predictions that are as ``expected`` ((N,), labels for
    ``score`` "top1", the teacher's answers for "agreement"), and the same for the control with the
    same bits handed to other images once. ``gained`` images are right with their own bits alone,
    ``lost`` ones with another's alone. ``allocations`` counts the different ones among the images,
    by the sites that cost something: where it is 1, nothing is left to hand around, and the control
    is the student itself.
    """
    if not budgets:
        return pd.DataFrame(columns=columns(score), dtype=float)
    curve = student.cost_curve(synthetic, batch_size)
    rows = []
    with keeping_multiplier(student):
        for number, budget in enumerate(np.linspace(curve.lowest, curve.highest, budgets).tolist()):
            setting = curve.setting(budget)
            student.multiplier = setting.multiplier
            rng = seeding.generator(seed, "dial", number)
            head = (budget, setting.multiplier, setting.bit_flops_percent)
            rows.append((*head, *_measured(student, images, expected, rng)))
    return pd.DataFrame(rows, columns=columns(score))


def _measured(
    student: Student, images: Iterable[Tensor], expected: Tensor, rng: torch.Generator
) -> tuple[float, float, float, float, int, int, int]:
    own = answer(student, images)
    allocations = len(own.bits[:, student.cost.per_site > 0].unique(dim=0))
    other = shuffled_control(student, images, own.bits, rng) if allocations > 1 else own
    right, otherwise = own.predictions == expected, other.predictions == expected
    return (
        float(student.bit_flops_percent(own.bits).mean()),
        float(own.bits.double().mean()),
        percent_equal(own.predictions, expected),
        percent_equal(other.predictions, expected),
        int((right & ~otherwise).sum()),
        int((otherwise & ~right).sum()),
        allocations,
    )


def budget_metrics(table: pd.DataFrame, score: str = "top1") -> dict[str, Any]:
    """What is said of the budget in ``metrics.json``.

    Costs in percent of the float model; ``gain_over_control`` in points of the score, averaged over
    the budgets at which images differ in their bits; None for what was not measured.
    """
    chosen = table[table["allocations"] > 1]
    return {
        "budgets": len(table),
        "lowest_bit_flops_percent": float(table["bit_flops_percent"].min()) if len(table) else None,
        "highest_bit_flops_percent": float(table["bit_flops_percent"].max())
        if len(table)
        else None,
        "gain_over_control": float((chosen[score] - chosen[f"control_{score}"]).mean())
        if len(chosen)
        else None,
    }
