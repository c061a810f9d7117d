"""A student's model card with a measured accuracy."""

from __future__ import annotations

from pathlib import Path

from dynadfq.evaluation.evaluate import Evaluation
from dynadfq.quant.artifact import CARD, read_facts
from dynadfq.quant.model_card import model_card
from dynadfq.runtime.resume import atomic_write


def write_card(
    folder: str | Path, result: Evaluation, data: str, file: str | Path | None = None
) -> None:
    """Write a saved student's model card with the accuracy that was measured.

    Args:
        folder: what ``Student.save`` wrote.
        result: what ``evaluate`` returned for this student.
        data: name of the labelled images.
        file: the card; by default ``card.md`` in the folder.

    Raises:
        ValueError: the images had no labels, or the folder holds something else.
        FileNotFoundError: the folder holds no student.
    """
    if result.top1 is None:
        raise ValueError("result: its images have no labels, so that no accuracy was measured")
    student = {
        "top1": result.top1,
        "agreement": result.agreement,
        "bit_flops_percent": result.bit_flops_percent,
    }
    measured = {
        "data": {"name": data, "test_images": len(result.predictions)},
        "student": student,
    }
    folder = Path(folder)
    page = model_card(read_facts(folder).model_dump(mode="json"), measured)
    atomic_write(folder / CARD if file is None else Path(file), page.encode())
