"""A float network in, a quantized ONNX file out: images, student, file, measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import torch

from dynadfq.deploy.efforts import (
    Effort,
    EffortName,
    effort_of,
    plan,
    require_bits,
    seconds_per_image,
)
from dynadfq.deploy.images import make_images, noise_images, require_statistics
from dynadfq.deploy.measure import Measured, card, labelled_images, measure
from dynadfq.deploy.student import check_export, make_student, recipe_of, scheme_of
from dynadfq.deploy.work import Work
from dynadfq.export.onnx_export import require_onnx
from dynadfq.export.qdq import export_qdq
from dynadfq.export.qdq_model import InputKind
from dynadfq.export.qdq_notes import require_own_notes
from dynadfq.quant.artifact import TENSORS
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument, require_choice
from dynadfq.runtime.memory import kept_memory
from dynadfq.runtime.numbers import seed_number
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


@dataclass(frozen=True)
class QuantizedModel:
    """A quantized network and what was measured of it.

    path: the ONNX file; a JSON file of the same name says how images are prepared.
    card: the model card.
    student: the network in torch.
    measured: agreement, accuracy, size and time.
    """

    path: Path
    card: Path
    student: Student
    measured: Measured


@kept_memory()
def quantize_model(
    teacher: Teacher,
    to: str | Path,
    weight_bits: int = 8,
    activation_bits: int = 8,
    effort: EffortName = "minutes",
    data: str | Path | None = None,
    classes: str | Path | None = None,
    input: InputKind = "float32",
    seed: int = 0,
    uniform: bool = False,
    say: Callable[[str], object] = print,
) -> QuantizedModel:
    """Quantize a network without data, and write it as an ONNX file for integer engines.

    If it is interrupted, the same call goes on where it stopped: unfinished work is kept in a
    folder beside ``to``.

    Args:
        teacher: the float network.
        to: the file, such as ``int8.onnx``, or a folder, which gets ``model.onnx`` and the student.
        weight_bits: width of weights. With up to 4 bits and synthetic images, the layers that lose
            most have 8, such that the mean over all weights is at most one bit more.
        activation_bits: width of activations.
        effort: "seconds" makes no images: SQuant, and ranges from BatchNorm statistics, or from
            noise if these do not reach every activation. "minutes" calibrates on synthetic images,
            and rounds weights below 8 bits by SQuant. "hours" makes more images and fine-tunes
            (DynaDFQ).
        data: folder of labelled images, ``<class>/<image>``, to measure accuracy on; nothing else
            reads them.
        classes: file that says which class each folder is, where names do not.
        input: "float32" for normalized images, "uint8" for pixels, which the file normalizes.
        seed: the same seed gives the same file.
        uniform: give all layers ``weight_bits``.
        say: gets lines of text on what is being done.

    Returns:
        The paths of the file and its card, the student, and what was measured.

    Raises:
        InvalidArgument: an argument is wrong; nothing has been done.
        ValueError: the network cannot be quantized or exported; nothing has been done.
        ArithmeticError: the file does not compute what the student computes; it is not written.
    """
    target = Path(to)
    outputs = _outputs(target)
    _require_own_files(outputs)
    path = outputs.path
    amount = effort_of(effort)
    require_choice("input", input, get_args(InputKind))
    require_bits("weight_bits", weight_bits)
    require_bits("activation_bits", activation_bits)
    seed = seed_number(seed)
    if classes is not None and data is None:
        raise InvalidArgument("classes", "says which class each folder of data is; give data too")
    require_onnx()
    if amount.images:
        require_statistics(teacher, "effort", "seconds needs no images")
    scheme = scheme_of(weight_bits, activation_bits)
    work = Work.beside(target, teacher, weight_bits, activation_bits, effort, seed, uniform)
    labelled = None if data is None else labelled_images(teacher, data, classes, work.top)
    seconds = seconds_per_image(teacher)
    lines = plan(amount, weight_bits, activation_bits, uniform, str(path), seconds)
    for number, line in enumerate(lines, 1):
        say(f"{number}. {line}")
    if amount.images:
        check_export(teacher, scheme, recipe_of(amount), input)
    images, held_back = _images(teacher, amount, seed, work)
    student = make_student(teacher, images, amount, scheme, uniform, seed, work)
    export = export_qdq(student, path, _all(held_back), input)
    measured = measure(student, teacher, held_back, bool(amount.images), labelled, data, export)
    weights = None
    if outputs.student is not None:
        student.save(outputs.student)
        weights = f"{outputs.student.name}/{TENSORS}"
    atomic_write(outputs.card, card(work.folder / "student", measured, weights).encode())
    work.delete()
    return QuantizedModel(path, outputs.card, student, measured)


class _Outputs(NamedTuple):
    """The ONNX file, the model card, and in a folder also the student's folder."""

    path: Path
    card: Path
    student: Path | None


def _outputs(to: Path) -> _Outputs:
    """What an output consists of."""
    if to.suffix == ".onnx":
        if to.is_dir():
            raise InvalidArgument("to", f"{to} is a folder; name a file")
        return _Outputs(to, to.with_suffix(".md"), None)
    if to.is_file() or (to.suffix and not to.is_dir()):
        raise InvalidArgument(
            "to",
            f"{to} must be a file that ends in .onnx, or a folder; "
            "make one with a dot in its name first",
        )
    return _Outputs(to / "model.onnx", to / "card.md", to / "student")


def _require_own_files(outputs: _Outputs) -> None:
    """Check that what is written beside an ONNX file replaces nothing of another kind."""
    try:
        require_own_notes(outputs.path)
    except InvalidArgument as error:
        raise InvalidArgument("to", error.problem) from None
    if outputs.path.exists():
        return
    for place, content in ((outputs.card, "model card"), (outputs.student, "student")):
        if place is not None and place.exists():
            raise InvalidArgument(
                "to",
                f"{place}, which gets the {content}, is there without {outputs.path}; "
                "choose another",
            )


def _images(
    teacher: Teacher, effort: Effort, seed: int, work: Work
) -> tuple[SyntheticSet, SyntheticSet]:
    """The images that the student is made on, and those that measure it."""
    if effort.images:
        made = make_images(teacher, effort.images, effort.iterations, seed, work)
        held_back = make_images(teacher, effort.held_back, effort.iterations, seed, work, True)
        return made, held_back
    noise = noise_images(teacher, effort.held_back, seed, work)
    return noise, noise


def _all(images: SyntheticSet) -> torch.Tensor:
    return images.take(torch.arange(len(images))).images
