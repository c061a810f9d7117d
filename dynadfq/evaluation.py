"""What a student is worth: accuracy, and bit-FLOPs image by image. Nothing here depends on how images are batched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from dynadfq.deploy.codes import to_codes
from dynadfq.losses import prediction_entropy
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student
from dynadfq.teacher import Teacher

Batches = Iterable[tuple[Tensor, Tensor]]  # (B, C, H, W) normalised images with (B,) labels


class Answers(NamedTuple):
    """A student's answers to N images."""

    predictions: Tensor  # (N,) int64
    bits: Tensor  # (N, S)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and cost of a student on labelled images.

    top1: percent. bit_flops_percent: mean over images, percent of the float model; bit_flops_percent_std: spread over
        images.
    per_image: one row an image: index, label, prediction, bit_flops_percent, mean_bits; with a teacher also
        teacher_prediction and entropy_nats (of the teacher's prediction).
    bits: (N, S) chosen widths.
    """

    top1: float
    bit_flops_percent: float
    bit_flops_percent_std: float
    mean_activation_bits: float
    per_image: pd.DataFrame
    bits: Tensor


def evaluate(student: Student, batches: Batches, teacher: Teacher | None = None) -> Evaluation:
    """Measure a student in code form on (images, labels) batches."""
    batches = list(batches)
    labels = torch.cat([labels for _, labels in batches])
    answers = answer(student, (images for images, _ in batches))
    percent = student.bit_flops_percent(answers.bits)
    columns = {
        "index": np.arange(len(labels)),
        "label": labels.numpy(),
        "prediction": answers.predictions.numpy(),
    }
    if teacher is not None:
        logits = teacher_logits(teacher, (images for images, _ in batches))
        columns["teacher_prediction"] = logits.argmax(dim=1).numpy()
        columns["entropy_nats"] = prediction_entropy(logits.double()).numpy()
    columns["bit_flops_percent"] = percent.numpy()
    columns["mean_bits"] = answers.bits.mean(dim=1).double().numpy()
    return Evaluation(
        top1=percent_equal(answers.predictions, labels),
        bit_flops_percent=float(percent.mean()),
        bit_flops_percent_std=float(percent.std(correction=0)),
        mean_activation_bits=float(answers.bits.mean()),
        per_image=pd.DataFrame(columns),
        bits=answers.bits,
    )


@torch.no_grad()
def answer(student: Student, images: Iterable[Tensor], allocations: Iterator[BitAllocation] | None = None) -> Answers:
    """Run a student's code form over (B, C, H, W) batches, with its own bits or an allocation given for each batch.

    Code form is what an export holds: what is measured here is what runs elsewhere.
    """
    device = next(student.parameters()).device
    codes = to_codes(student.eval(), widest=WIDEST_ACTIVATION).to(device)
    predictions, bits = [], []
    for batch in images:
        logits, used = codes.run(batch.to(device), None if allocations is None else next(allocations))
        predictions.append(logits.argmax(dim=1).cpu())
        bits.append(used.cpu())
    return Answers(torch.cat(predictions), torch.cat(bits))


@torch.no_grad()
def teacher_logits(teacher: Teacher, images: Iterable[Tensor]) -> Tensor:
    """The teacher's (N, classes) logits over (B, C, H, W) batches."""
    return torch.cat([teacher(_to(batch, teacher.device)).cpu() for batch in images])


def shuffled_control(student: Student, images: Sequence[Tensor], bits: Tensor, rng: torch.Generator) -> Answers:
    """Answers when each image gets the bits that the selector chose for a random other: the same cost, no knowledge.

    A selector that does not beat this control knows nothing about images.
    """
    shuffled = bits[torch.randperm(len(bits), generator=rng)]
    rows = shuffled.to(next(student.parameters()).device).split([len(batch) for batch in images])
    return answer(student, images, (BitAllocation(row) for row in rows))


def lowest_surviving_bits(
    student: Student, images: Sequence[Tensor], expected: Tensor, widths: Sequence[int]
) -> Tensor:
    """Quantization sensitivity: (N,) lowest uniform width from which on predictions are as expected, or 0."""
    lowest, alive = torch.zeros(len(expected), dtype=torch.int64), torch.ones(len(expected), dtype=torch.bool)
    for width in sorted(widths, reverse=True):
        forced = uniform(width, len(student.sites))
        alive &= answer(student, images, repeat(forced)).predictions == expected
        lowest[alive] = width
    return lowest


def percent_equal(a: Tensor, b: Tensor) -> float:
    """Percent of entries in which two (N,) tensors agree."""
    return 100.0 * float((a == b).double().mean())


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one side does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def _to(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).contiguous(memory_format=torch.channels_last)
