"""What a student is worth: accuracy, and bit-FLOPs image by image. Nothing here depends on how
images are batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynadfq.evaluation.teacher_statistics import TeacherView, Viewer
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.ops.precision import compute_precision
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed, seeding
from dynadfq.teacher.teacher import Teacher

T = TypeVar("T")
Labelled = tuple[
    Tensor, Tensor | None
]  # (B, C, H, W) normalized images, with (B,) labels where there are any


class Reiterable(Generic[T]):
    """What a function yields, anew each time it is walked: batches that are measured more than once
    and never held.
    """

    def __init__(self, walk: Callable[[], Iterator[T]]) -> None:
        self.walk = walk

    def __iter__(self) -> Iterator[T]:
        return self.walk()


class Answers(NamedTuple):
    """A student's answers to N images."""

    predictions: Tensor  # (N,) int64
    bits: Tensor  # (N, S)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and cost of a student.

    top1: percent; None where images have no labels. bit_flops_percent: mean over images, percent of
        the float model; bit_flops_percent_std: spread over images.
    per_image: one row an image: index, label (empty where it has none), prediction,
        bit_flops_percent, mean_bits; with a teacher also teacher_prediction and entropy_nats (of
        the teacher's prediction).
    bits: (N, S) chosen widths.
    teacher: what the teacher sees, where one was given.
    """

    top1: float | None
    bit_flops_percent: float
    bit_flops_percent_std: float
    mean_activation_bits: float
    per_image: pd.DataFrame
    bits: Tensor
    teacher: TeacherView | None = None


def evaluate(
    student: Student, batches: Iterable[Labelled], teacher: Teacher | None = None
) -> Evaluation:
    """Measure a student in integer form on (images, labels) batches, which are walked once and not
    kept.

    Ranks (``dynadfq.runtime.distributed``) take turns at the batches, and all return the same.
    """
    codes, viewer = Codes(student), None if teacher is None else Viewer(teacher)

    def measure(batch: Labelled) -> tuple[Answers, tuple[Tensor, Tensor] | None, Tensor | None]:
        images, labels = batch
        return codes.answer(images), None if viewer is None else viewer.look(images), labels

    measured = list(zip(*distributed.in_turns(measure, batches), strict=True))
    answers, labels = (
        _joined(measured[0]),
        None if measured[2][0] is None else torch.cat(measured[2]),
    )
    view = None if viewer is None else viewer.view(*map(torch.cat, zip(*measured[1], strict=True)))
    percent = student.bit_flops_percent(answers.bits)
    columns = {
        "index": np.arange(len(percent)),
        "label": [None] * len(percent) if labels is None else labels.numpy(),
        "prediction": answers.predictions.numpy(),
    }
    if view is not None:
        columns["teacher_prediction"] = view.predictions.numpy()
        columns["entropy_nats"] = view.entropy_nats.numpy()
    columns["bit_flops_percent"] = percent.numpy()
    columns["mean_bits"] = answers.bits.mean(dim=1).double().numpy()
    return Evaluation(
        top1=None if labels is None else percent_equal(answers.predictions, labels),
        bit_flops_percent=float(percent.mean()),
        bit_flops_percent_std=float(percent.std(correction=0)),
        mean_activation_bits=float(answers.bits.mean()),
        per_image=pd.DataFrame(columns),
        bits=answers.bits,
        teacher=view,
    )


class Codes:
    """A student's integer form, which is what an export holds: what is measured here is what runs
    elsewhere.
    """

    def __init__(self, student: Student) -> None:
        self.device = next(student.parameters()).device
        self.form: IntegerForm = to_integer_form(student.eval(), widest=WIDEST_ACTIVATION).to(
            self.device
        )

    @torch.no_grad()
    def answer(self, images: Tensor, allocation: BitAllocation | None = None) -> Answers:
        """Answers to (B, C, H, W) images with their own bits or those of an allocation."""
        with compute_precision("float32", self.device):
            logits, bits = self.form.run(images.to(self.device), allocation)
        return Answers(logits.argmax(dim=1).cpu(), bits.cpu())


def answer(
    student: Student, images: Iterable[Tensor], allocation: BitAllocation | Tensor | None = None
) -> Answers:
    """Run a student's integer form over (B, C, H, W) batches: with its own bits, one allocation, or
    (N, S) of each image.

    Ranks take turns at the batches, and all return every answer.
    """
    codes = Codes(student)

    def allocated() -> Iterator[tuple[Tensor, BitAllocation | None]]:
        done = 0
        for batch in images:
            given = allocation
            if isinstance(given, Tensor):
                given = BitAllocation(given[done : done + len(batch)].to(codes.device))
            done += len(batch)
            yield batch, given

    return _joined(distributed.in_turns(lambda given: codes.answer(*given), allocated()))


def _joined(parts: Iterable[Answers]) -> Answers:
    return Answers(*map(torch.cat, zip(*parts, strict=True)))


def shuffled_control(
    student: Student, images: Iterable[Tensor], bits: Tensor, rng: torch.Generator
) -> Answers:
    """Answers when each image gets the bits that the selector chose for a random other: the same
    cost, no knowledge.

    A selector that does not beat this control knows nothing about images.
    """
    return answer(student, images, bits[torch.randperm(len(bits), generator=rng)])


def control_scores(
    student: Student,
    images: Iterable[Tensor],
    bits: Tensor,
    expected: Tensor,
    seed: int,
    repeats: int,
) -> list[float]:
    """Percent of predictions that are as expected, (N,), in each of some repeats of the control."""
    shuffles = (seeding.generator(seed, "control", repeat) for repeat in range(repeats))
    return [
        percent_equal(shuffled_control(student, images, bits, rng).predictions, expected)
        for rng in shuffles
    ]


def lowest_surviving_bits(
    student: Student, images: Iterable[Tensor], expected: Tensor, widths: Sequence[int]
) -> Tensor:
    """Quantization sensitivity: (N,) lowest uniform width from which on predictions are as
    expected, or 0.

    The images are walked once for each width.
    """
    lowest, alive = (
        torch.zeros(len(expected), dtype=torch.int64),
        torch.ones(len(expected), dtype=torch.bool),
    )
    for width in sorted(widths, reverse=True):
        alive &= answer(student, images, uniform(width, len(student.sites))).predictions == expected
        lowest[alive] = width
    return lowest


def percent_equal(a: Tensor, b: Tensor) -> float:
    """Percent of entries in which two (N,) tensors agree."""
    return 100.0 * float((a == b).double().mean())


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one side does not vary."""
    from scipy.stats import spearmanr  # half of what importing the library would cost

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
