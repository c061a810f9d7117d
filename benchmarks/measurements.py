"""Measurements of the grid on labelled test images, and on the teacher's BatchNorm layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dynadfq.data.config import DataConfig
from dynadfq.evaluation.controls import permuted
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.evaluation.metrics import entropy_cost_correlation
from dynadfq.ops.batch_norm import running_statistics
from dynadfq.quant.build import load_student
from dynadfq.runtime import device
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from stages.artifacts import write_json, write_table
from stages.labelled import test_set

STATISTICS_BATCH = 64  # images
CONTROL_SEED = 0


def measure_student(
    settings: Mapping[str, Any], teacher_folder: Path, folder: Path, path: Path
) -> None:
    """Write accuracy and cost of a student, and the teacher's accuracy on the same images, in
    percent.

    Which images the student takes for another class is kept, by their places among those that were
    measured. Of a student whose images choose their widths, the control is measured too: the same
    widths, given to other images at random.
    """
    where = device.resolve(settings["device"])
    trust = settings["architectures"]
    teacher = load_teacher(teacher_folder, trust=trust).to(where)
    student = load_student(folder, trust=trust).to(where)
    test = test_set(DataConfig(**settings["data"]), teacher, settings["test_images"])
    if test is None:
        raise ValueError("data.name: null; a grid compares accuracies and needs labelled images")
    result = evaluate(student, test.batches(settings["batch_size"]), teacher)
    table = result.per_image
    measured: dict[str, Any] = {
        "top1": result.top1,
        "bit_flops_percent": result.bit_flops_percent,
        "bit_flops_percent_std": result.bit_flops_percent_std,
        "mean_activation_bits": result.mean_activation_bits,
        "entropy_bits_spearman": entropy_cost_correlation(table),
        "teacher_top1": 100.0 * float((table["teacher_prediction"] == table["label"]).mean()),
        "test_images": len(test),
        "wrong": _places(result.predictions != test.labels),  # for paired comparisons
    }
    if student.scheme.dynamic:
        images = (images for images, _ in test.batches(settings["batch_size"]))
        classes = permuted(student, images, result, CONTROL_SEED, repeats=1)[0]
        wrong = _places(classes != test.labels)
        measured |= {"control_top1": 100.0 * (1 - len(wrong) / len(test)), "control_wrong": wrong}
    write_json(path, measured)


def _places(chosen: Tensor) -> list[int]:
    """Return where (N,) booleans are true."""
    return [int(place) for place in chosen.nonzero().flatten()]


def measure_images(
    settings: Mapping[str, Any], teacher_folder: Path, folder: Path, path: Path
) -> None:
    """Compare every image's activations with the BatchNorm statistics, layer by layer."""
    teacher = load_teacher(teacher_folder, trust=(settings["architecture"],))
    batches = (batch.images for batch in SyntheticSet(folder).check().batches(STATISTICS_BATCH))
    write_table(path, layer_statistics(teacher, batches))


@torch.no_grad()
def layer_statistics(teacher: Teacher, batches: Iterable[Tensor]) -> pd.DataFrame:
    """Return one row per image and BatchNorm layer, from (B, C, H, W) images.

    offset: mean over channels of the image's mean less the running one, in running deviations; 0 is
        a match.
    spread: mean over channels of the image's standard deviation over the running one; 1 is a match.
    """
    rows, first = [], 0
    with teacher.recording() as recording:
        for images in batches:
            recording.clear()
            teacher(images)
            for number, (layer, x) in enumerate(recording.batch_norms):
                mean, variance = running_statistics(layer)
                deviation = (variance + layer.eps).sqrt()
                pixels = x.flatten(2)
                offset = ((pixels.mean(dim=2) - mean) / deviation).mean(dim=1)
                spread = (pixels.std(dim=2, correction=0) / deviation).mean(dim=1)
                index = range(first, first + len(images))
                columns = {
                    "layer": number,
                    "image": index,
                    "offset": offset.numpy(),
                    "spread": spread.numpy(),
                }
                rows.append(pd.DataFrame(columns))
            first += len(images)
    return pd.concat(rows, ignore_index=True)
