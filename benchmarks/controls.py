"""A dynamic student's bit-FLOPs, given to the test images in other ways, and each of its widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.measurements import CONTROL_SEED, opened, places
from dynadfq.data.labelled import LabelledSet
from dynadfq.evaluation.controls import ceiling_widths, measure_controls, uniform_predictions
from dynadfq.evaluation.evaluate import Predictions, evaluate
from dynadfq.evaluation.paired import paired
from dynadfq.quant.model import Student
from stages.artifacts import write_json


@dataclass(frozen=True)
class Images:
    """Labelled images without their labels, which can be read any number of times."""

    test: LabelledSet
    batch_size: int

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (B, C, H, W) batches."""
        return (images for images, _ in self.test.batches(self.batch_size))


def measure(settings: Mapping[str, Any], teacher_folder: Path, folder: Path, path: Path) -> None:
    """Write what a dynamic student answers with its own widths and with others.

    The file holds `own`, `permuted`, `static` and `ceiling` (``dynadfq.evaluation.controls``), and
    for each candidate and the target `N bits`, all images at this width. Each has its `top1` and
    `bit_flops_percent` and its `wrong` places among the test images; all but `own` also how the
    student's own answers compare with it, image by image (``dynadfq.evaluation.paired``).
    """
    _, student, test = opened(settings, teacher_folder, folder)
    images = Images(test, settings["batch_size"])
    own = evaluate(student, test.batches(images.batch_size))
    widths = {*student.scheme.activation_bits, *ceiling_widths(student)}
    uniform = uniform_predictions(student, images, widths)
    controls = measure_controls(student, images, own, uniform, test.labels, CONTROL_SEED, repeats=1)
    assert controls.static is not None and controls.ceiling is not None  # it is dynamic
    answers = {
        "own": (own.predictions, own.bit_flops_percent),
        "permuted": (controls.permuted[0], own.bit_flops_percent),
        "static": _answer(student, controls.static),
        "ceiling": _answer(student, controls.ceiling),
        **{f"{width} bits": _answer(student, found) for width, found in uniform.items()},
    }
    right = own.predictions == test.labels
    found: dict[str, Any] = {}
    for name, (classes, cost) in answers.items():
        wrong = places(classes != test.labels)
        found[name] = {
            "top1": 100.0 * (1 - len(wrong) / len(test)),
            "bit_flops_percent": cost,
            "wrong": wrong,
        }
        if name != "own":
            found[name] |= asdict(paired(right, classes == test.labels))
    found["own"]["selector_overhead_percent"] = student.selector_overhead_percent
    write_json(path, {"test_images": len(test), "allocations": found})


def _answer(student: Student, found: Predictions) -> tuple[Tensor, float]:
    """Return (N,) classes, and the mean cost of an image in percent of the float model."""
    return found.classes, float(student.bit_flops_percent(found.bits).mean())
