"""Accuracy against cost of one student at many bit budgets, beside the same bits at random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.evaluation.controls import allocations, shuffled_control
from dynadfq.evaluation.evaluate import percent_equal, predict
from dynadfq.quant.model import Student
from dynadfq.runtime import seeding
from dynadfq.synthesis.dataset import SyntheticSet

RANDOM_STREAM = "dial"  # names the random numbers; another name would change every control


def columns(score: str) -> list[str]:
    """Return the columns of the budget table; ``score`` is "top1" or "agreement".

    >>> columns("top1")[5:8]
    ['top1', 'control_top1', 'gained']
    """
    budgets = ["budget", "multiplier", "synthetic_bit_flops_percent"]
    costs = ["bit_flops_percent", "mean_bits"]
    return [*budgets, *costs, score, f"control_{score}", "gained", "lost", "allocations"]


@contextmanager
def keeping_multiplier(student: Student) -> Iterator[None]:
    """Restore the student's Lagrange multiplier at the end of the block."""
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
    """Measure a dynamic student at bit budgets evenly spaced over its range.

    Args:
        student: the student; its multiplier is restored. A fixed width gives an empty table.
        synthetic: the images on which each budget's Lagrange multiplier is found.
        images: (B, C, H, W) batches to measure on, read twice per budget.
        expected: (N,) labels for ``score`` "top1", the teacher's predictions for "agreement".
        budgets: number of rows; 0 gives an empty table.
        seed: of the control.
        batch_size: of the synthetic images.
        score: name of the score's column.

    Returns:
        One row per budget; costs in percent of the float model's bit-FLOPs. ``budget`` and its
        ``multiplier``; ``synthetic_bit_flops_percent`` and ``bit_flops_percent``, the mean costs of
        synthetic and measured images; ``mean_bits``; the score in percent, and ``control_`` score
        with the same bits handed to other images once. ``gained`` and ``lost`` count the images
        that are right only with their own bits, or only with another's. ``allocations`` counts the
        distinct ones among the images, over the sites that cost something: where it is 1 there is
        nothing to shuffle, and the control is the student itself.
    """
    if not budgets or not student.scheme.dynamic:
        return pd.DataFrame(columns=columns(score), dtype=float)
    curve = student.cost_curve(synthetic, batch_size)
    rows = []
    with keeping_multiplier(student):
        for number, budget in enumerate(np.linspace(curve.lowest, curve.highest, budgets).tolist()):
            setting = curve.setting(budget)
            student.multiplier = setting.multiplier
            rng = seeding.generator(seed, RANDOM_STREAM, number)
            row = {
                "budget": budget,
                "multiplier": setting.multiplier,
                "synthetic_bit_flops_percent": setting.bit_flops_percent,
                **_measured(student, images, expected, rng, score),
            }
            rows.append(row)
    return pd.DataFrame(rows, columns=columns(score))


def _measured(
    student: Student,
    images: Iterable[Tensor],
    expected: Tensor,
    rng: torch.Generator,
    score: str,
) -> dict[str, float]:
    """Measure the student and its control at the current multiplier."""
    own = predict(student, images)
    different = allocations(student, own.bits)
    control = own
    if different > 1:
        control = shuffled_control(student, images, own.bits, rng)
    right = own.classes == expected
    control_right = control.classes == expected
    return {
        "bit_flops_percent": float(student.bit_flops_percent(own.bits).mean()),
        "mean_bits": float(own.bits.double().mean()),
        score: percent_equal(own.classes, expected),
        f"control_{score}": percent_equal(control.classes, expected),
        "gained": int((right & ~control_right).sum()),
        "lost": int((control_right & ~right).sum()),
        "allocations": different,
    }


def budget_metrics(table: pd.DataFrame, score: str = "top1") -> dict[str, Any]:
    """Summarize a budget table for ``metrics.json``.

    Returns:
        ``budgets``, their number; ``lowest_`` and ``highest_bit_flops_percent`` of the float model;
        ``gain_over_control`` in points of the score, averaged over the budgets at which images
        differ in their bits. None for what was not measured.
    """
    shuffled = table[table["allocations"] > 1]
    gains = shuffled[score] - shuffled[f"control_{score}"]
    return {
        "budgets": len(table),
        "lowest_bit_flops_percent": _or_none(table["bit_flops_percent"].min()),
        "highest_bit_flops_percent": _or_none(table["bit_flops_percent"].max()),
        "gain_over_control": _or_none(gains.mean()),
    }


def _or_none(value: float) -> float | None:
    """Return a number, or None for the NaN that pandas gives for an empty column."""
    return None if np.isnan(value) else float(value)
