"""An estimate of a grid's run time, from sizes and rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dynadfq.methods import METHODS
from dynadfq.training.config import FinetuneConfig

Entry = Mapping[str, Any]
STARTUP = 2.0  # seconds per cell to start DVC and to import the library
STUDENT_OVERHEAD = 4.0  # seconds to trace, calibrate and save


class Rates(NamedTuple):
    """Work of a machine per second, all cores together; the defaults are ResNet-20 at 28×28 on two
    CPU cores.
    """

    synthesis: float = 600.0
    fixed: float = 350.0
    dynamic: float = 200.0
    test: float = 700.0


MEANINGS = {
    "synthesis": "image-steps of synthesis",
    "fixed": "training images of a fixed student",
    "dynamic": "training images of a dynamic student",
    "test": "test images",
}


def estimate(cells: Mapping[str, Any], rates: Rates) -> str:
    """Return a line for each kind of work, in cells and minutes, and the sum."""
    number_of = {
        key: entry["params"]["synthesis"]["num_images"]
        for key, entry in {**cells["images"], **cells["labelled"]}.items()
    }
    test_pass = (cells["evaluation"]["test_images"] or 10_000) / rates.test
    work = {
        "images": [images_seconds(entry, rates) for entry in cells["images"].values()],
        "labelled": [0.0 for _ in cells["labelled"]],
        "students": [
            student_seconds(entry, number_of[entry["images"]], rates)
            for entry in cells["students"].values()
        ],
        "evaluations": [test_pass for _ in cells["students"]],
    }
    for key in cells["controls"]:
        candidates = cells["students"][key]["params"]["selector"]["candidates"]
        work["evaluations"].append(test_pass * (3 + len(candidates)))
    count = sum(map(len, work.values()))
    lines = [
        f"{name:12}{len(times):5} cells {sum(times) / 60:7.1f} min" for name, times in work.items()
    ]
    total = sum(map(sum, work.values())) + STARTUP * count
    lines.append(f"{'start':12}{count:5} cells {STARTUP * count / 60:7.1f} min")
    lines.append(f"{'sum':24}{total / 60:7.1f} min, without training a teacher")
    return "\n".join(lines)


def images_seconds(entry: Entry, rates: Rates) -> float:
    """Return the seconds to optimize all pixels, or to train a generator."""
    if not METHODS[entry["method"]].optimizes_images:
        return 0.0
    synthesis = entry["params"]["synthesis"]
    method = entry["params"]["method"]
    images = (
        method["images"]["generator_batch_size"]
        if METHODS[entry["method"]].trains_generator
        else synthesis["num_images"]
    )
    return float(images * synthesis["iterations"] / rates.synthesis)


def student_seconds(entry: Entry, num_images: int, rates: Rates) -> float:
    """Return the seconds of fine-tuning; an online generator doubles them, AdaRound has its own
    steps.
    """
    finetune, method = entry["params"]["finetune"], entry["method"]
    settings = entry["params"]["method"]["student"]
    if method == "adaround":
        return STUDENT_OVERHEAD + 20 * float(settings["iterations"]) / 1000
    if not METHODS[method].trains_student or not any(
        settings.get(k, 1) for k in ("label_weight", "distillation_weight")
    ):
        return STUDENT_OVERHEAD
    steps = FinetuneConfig(**finetune).total_steps(num_images)
    images = steps * finetune["batch_size"]
    passes = 2 if METHODS[method].trains_generator or settings.get("perturbation") else 1
    return STUDENT_OVERHEAD + float(passes * images) / (
        rates.fixed if entry["fixed"] else rates.dynamic
    )
