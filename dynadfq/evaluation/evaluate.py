"""Top-1 accuracy and per-image bit-FLOPs of a model; no result depends on the batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dynadfq.evaluation.batches import LabelledBatch, checked_batches
from dynadfq.evaluation.same_inputs import require_same_inputs
from dynadfq.evaluation.teacher_statistics import (
    TeacherObserver,
    TeacherStatistics,
    float_logits,
)
from dynadfq.export.integer_form import to_integer_form
from dynadfq.graph.config import FLOAT_BITS
from dynadfq.ops.precision import compute_precision
from dynadfq.quant.bits import BitAllocation, widths_or_float
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.runtime.memory import kept_memory
from dynadfq.teacher.teacher import Teacher


class Predictions(NamedTuple):
    """Predicted classes of N images, and the activation widths they were computed with."""

    classes: Tensor  # (N,) int64
    bits: Tensor  # (N, S)
    margins: Tensor  # (N,), by which the largest logit exceeds the second


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and cost of a student or of a teacher.

    top1: percent; None where images have no labels.
    bit_flops_percent: mean over images, percent of the float model.
    bit_flops_percent_std: standard deviation over images.
    mean_activation_bits: mean over images and sites.
    per_image: one row per image: index, label (empty where it has none), prediction,
        bit_flops_percent, mean_bits; with a teacher also teacher_prediction and entropy_nats (of
        the teacher's prediction).
    predictions: (N,) predicted classes.
    bits: (N, S) activation widths; (N, 1) of 32 bits for a teacher, (N, 0) for a student of float
        activations.
    teacher: the teacher's predictions, where one was given.
    """

    top1: float | None
    bit_flops_percent: float
    bit_flops_percent_std: float
    mean_activation_bits: float
    per_image: pd.DataFrame
    predictions: Tensor
    bits: Tensor
    teacher: TeacherStatistics | None = None

    @property
    def agreement(self) -> float | None:
        """Percent of images in the same class as the teacher's; None where none was given."""
        if self.teacher is None:
            return None
        return percent_equal(self.predictions, self.teacher.predictions)


class _BatchResult(NamedTuple):
    model: Predictions
    labels: Tensor | None
    teacher: tuple[Tensor, Tensor] | None  # predictions and their entropies


@kept_memory()
def evaluate(
    model: Student | Teacher,
    batches: Iterable[Any],
    teacher: Teacher | None = None,
    bits: int | Sequence[int] | None = None,
) -> Evaluation:
    """Measure a student in integer form, or a teacher in float32.

    Ranks (``dynadfq.runtime.distributed``) take turns at the batches, and all return the same.

    Args:
        model: the quantized or the float model.
        batches: (images, labels), (B, C, H, W) normalized and (B,) or None, as
            ``checked_batches`` takes them; read once and not kept.
        teacher: the float model that a student was made from; adds its predictions and their
            entropies to the result.
        bits: activation widths of all images, one for all sites or one per site (32 for a student
            of float activations); None lets the student choose.

    Returns:
        Accuracy, cost and predictions.

    Raises:
        InvalidArgument: there are no batches, images or labels are not the model's, the teacher
            reads other images or has other classes, ``bits`` are given with a teacher or wrong, or
            an argument is of another type.
    """
    if not isinstance(model, (Student, Teacher)):
        raise InvalidArgument(
            "model", f"must be a student or a teacher; got {type(model).__name__}"
        )
    if not isinstance(teacher, (Teacher, type(None))):
        raise InvalidArgument("teacher", f"must be a teacher; got {type(teacher).__name__}")
    allocation = None
    if bits is not None:
        if isinstance(model, Teacher):
            raise InvalidArgument("bits", f"{shown(bits)} given, and a teacher has no widths")
        allocation = model.allocation(bits)
    if teacher is not None:
        require_same_inputs(teacher, model)
    measured = FloatModel(model) if isinstance(model, Teacher) else IntegerModel(model)
    observer = None if teacher is None else TeacherObserver(teacher)

    def measure(batch: LabelledBatch) -> _BatchResult:
        images, labels = batch
        observed = None if observer is None else observer.observe(images)
        return _BatchResult(measured.predict(images, allocation), labels, observed)

    checked = checked_batches(batches, model.preprocessing, measured.num_classes)
    results = distributed.in_turns(measure, checked)
    found = _joined([one.model for one in results])
    labels = [one.labels for one in results if one.labels is not None]
    observed = [one.teacher for one in results if one.teacher is not None]
    return _evaluation(
        found,
        measured.bit_flops_percent(found.bits),
        torch.cat(labels) if labels else None,
        observer.statistics(observed) if observer is not None else None,
    )


def _evaluation(
    found: Predictions,
    percent: Tensor,
    labels: Tensor | None,
    teacher: TeacherStatistics | None,
) -> Evaluation:
    """Summarize predictions of N images and their (N,) costs."""
    columns: dict[str, Any] = {
        "index": np.arange(len(percent)),
        "label": [None] * len(percent) if labels is None else labels.numpy(),
        "prediction": found.classes.numpy(),
    }
    if teacher is not None:
        columns["teacher_prediction"] = teacher.predictions.numpy()
        columns["entropy_nats"] = teacher.entropy_nats.numpy()
    columns["bit_flops_percent"] = percent.numpy()
    widths = widths_or_float(found.bits)
    columns["mean_bits"] = widths.mean(dim=1).double().numpy()
    return Evaluation(
        top1=None if labels is None else percent_equal(found.classes, labels),
        bit_flops_percent=float(percent.mean()),
        bit_flops_percent_std=float(percent.std(correction=0)),
        mean_activation_bits=float(widths.mean()),
        per_image=pd.DataFrame(columns),
        predictions=found.classes,
        bits=found.bits,
        teacher=teacher,
    )


class IntegerModel:
    """A student's integer form: the evaluation measures what an export computes."""

    def __init__(self, student: Student) -> None:
        self.device = student.device
        self.bit_flops_percent = student.bit_flops_percent
        self.num_classes: int = student.description["num_classes"]
        form = to_integer_form(student.eval(), widest=WIDEST_ACTIVATION)
        self.form = form.to(self.device)

    @torch.no_grad()
    def predict(self, images: Tensor, allocation: BitAllocation | None = None) -> Predictions:
        """Classify (B, C, H, W) images with their own widths or those of an allocation."""
        with compute_precision("float32", self.device):
            logits, bits = self.form.run(images.to(self.device), allocation)
        return _predictions(logits.cpu(), bits.cpu())


class FloatModel:
    """A teacher: 32 bits, and all of the float network's bit-FLOPs."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.num_classes = teacher.num_classes

    def predict(self, images: Tensor, allocation: BitAllocation | None = None) -> Predictions:
        """Classify (B, C, H, W) images; there are no widths to allocate."""
        logits = float_logits(self.teacher, images)
        return _predictions(logits, torch.full((len(logits), 1), float(FLOAT_BITS)))

    def bit_flops_percent(self, bits: Tensor) -> Tensor:
        """Return 100 for each of (N, 1) widths: (N,) float64."""
        return torch.full((len(bits),), 100.0, dtype=torch.float64)


def predict(
    student: Student, images: Iterable[Tensor], allocation: BitAllocation | Tensor | None = None
) -> Predictions:
    """Classify all images with a student's integer form; ranks take turns at the batches.

    Args:
        student: the quantized model.
        images: (B, C, H, W) batches.
        allocation: activation widths of all images, or (N, S) of each; None lets the student
            choose.
    """
    model = IntegerModel(student)

    def with_allocations() -> Iterator[tuple[Tensor, BitAllocation | None]]:
        done = 0
        for batch in images:
            given = allocation
            if isinstance(given, Tensor):
                given = BitAllocation(given[done : done + len(batch)].to(model.device))
            done += len(batch)
            yield batch, given

    return _joined(distributed.in_turns(lambda one: model.predict(*one), with_allocations()))


def _predictions(logits: Tensor, bits: Tensor) -> Predictions:
    """Return the predictions of (B, classes) logits; of one class the margin is 0."""
    largest = logits.topk(min(2, logits.shape[1]), dim=1).values
    return Predictions(logits.argmax(dim=1), bits, largest[:, 0] - largest[:, -1])


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate the predictions of all batches."""
    return Predictions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def percent_equal(a: ArrayLike, b: ArrayLike) -> float:
    """Return the percent of entries in which two (N,) sequences agree."""
    return 100.0 * float(np.mean(np.asarray(a) == np.asarray(b)))
