"""How much work a quantized network is worth: images, roundings and training steps by effort."""

from __future__ import annotations

from time import perf_counter
from typing import Literal, NamedTuple, get_args

import torch

from dynadfq.deploy.images import PILOT_IMAGES
from dynadfq.quant.config import Rounding
from dynadfq.runtime.errors import InvalidArgument, require_choice
from dynadfq.synthesis.config import SynthesisConfig
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig

EffortName = Literal["seconds", "minutes", "hours"]
# Bits from which rounding to nearest, and ranges that clip nothing, lose next to nothing.
EXACT_ENOUGH = 8
PACKED_BITS = 4  # weights up to this width take half a byte in a file, others a whole one
WIDER_BY = 1.0  # bits, by which wide layers may raise the mean width of weights
EXPORT_SECONDS = 30
ROUNDED: dict[Rounding, str] = {
    "nearest": "to nearest",
    "squant": "by SQuant",
    "adaround": "by AdaRound",
    "block": "block by block",
}


class Effort(NamedTuple):
    """The work of one effort.

    images: synthetic images that the student is made on; 0 uses none.
    iterations: steps of optimization per image.
    held_back: synthetic images that only measure; noise where none are made.
    rounding: rounding of weights below 8 bits.
    finetune: steps and rates of fine-tuning; None does not fine-tune.
    """

    images: int
    iterations: int
    held_back: int
    rounding: Rounding
    finetune: FinetuneConfig | None

    def rounding_of(self, weight_bits: int) -> Rounding:
        """Return how weights of a width are rounded."""
        calibrated = self.finetune is None and self.images > 0
        return "nearest" if calibrated and weight_bits >= EXACT_ENOUGH else self.rounding


EFFORTS: dict[EffortName, Effort] = {
    "seconds": Effort(0, 0, 64, "squant", None),
    "minutes": Effort(128, 100, 64, "squant", None),
    "hours": Effort(
        SynthesisConfig().num_images,
        SynthesisConfig().iterations,
        256,
        "nearest",
        FinetuneConfig(steps_per_epoch=200),  # 80,000 steps, as in configs/
    ),
}


def effort_of(name: str) -> Effort:
    """Return the work of an effort by its name.

    Raises:
        InvalidArgument: there is no such effort.
    """
    require_choice("effort", name, get_args(EffortName))
    return EFFORTS[name]  # type: ignore[index]  # checked


def widens(effort: Effort, weight_bits: int, uniform: bool) -> bool:
    """Return whether the layers that lose most get 8 bits.

    It saves nothing from 5 bits, which a file stores as 8, and sensitivities need images.
    """
    return not uniform and effort.images > 0 and weight_bits <= PACKED_BITS


def require_bits(name: str, bits: int) -> None:
    """Check a bit-width.

    Raises:
        InvalidArgument: it is outside 2 … 8.
    """
    if not 2 <= bits <= 8:
        raise InvalidArgument(name, f"must be in 2 … 8; got {bits}")


def plan(
    effort: Effort, weight_bits: int, activation_bits: int, uniform: bool, file: str, seconds: float
) -> list[str]:
    """Return what will be done, a line for each of the four steps, with its time.

    Args:
        effort: the work.
        weight_bits: width of every weight.
        activation_bits: width of activations.
        uniform: whether all layers have this width.
        file: the file's name.
        seconds: of one forward and backward pass of one image.
    """
    count = effort.images + effort.held_back + PILOT_IMAGES
    making = f"{effort.images} + {effort.held_back} held back, {effort.iterations} steps each"
    images = f"images: {making} (about {duration(count * effort.iterations * seconds)})"
    if not effort.images:
        images = "images: none; activation ranges follow from BatchNorm statistics, or from noise"
    rounding = effort.rounding_of(weight_bits)
    student = f"student: W{weight_bits}A{activation_bits}"
    work = 2 * (effort.images + effort.held_back) * seconds
    if widens(effort, weight_bits, uniform):
        student += f" (8 bits in some layers, {weight_bits + WIDER_BY:g} on average at most)"
    student += f", weights rounded {ROUNDED[rounding]}"
    if effort.finetune is not None:
        steps = effort.finetune.total_steps(effort.images)
        student += f", {steps:,} steps of fine-tuning"
        work += 2 * steps * effort.finetune.batch_size * seconds
    return [
        images,
        f"{student} (about {duration(work)})",
        f"file: {file}, checked in onnxruntime (about {duration(EXPORT_SECONDS)})",
        "measurement: agreement with the float network, size and time",
    ]


def seconds_per_image(teacher: Teacher) -> float:
    """Return the time of one forward and backward pass of one image, in small batches."""
    images = teacher.example.repeat(4, 1, 1, 1).requires_grad_()
    best = float("inf")
    for _ in range(2):  # the first one allocates
        start = perf_counter()
        torch.autograd.grad(teacher(images).sum(), images)
        if teacher.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, perf_counter() - start)
    return best / len(images)


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(0.2), duration(89), duration(5400), duration(200_000)
    ('1 s', '89 s', '90 min', '56 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 2 * 3600:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
