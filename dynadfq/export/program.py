"""A student's integer form as a ``torch.export`` program, for torch without this library."""

from __future__ import annotations

import io
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import atomic_write

NOTES = "dynadfq.json"  # the extra file with what `described` returns, and the multiplier
KNOWN = ("architecture", "class_names", "input_shape", "mean", "resize", "source", "std")
# Notes on the source lines of a node: half of a file, and different on every machine.
ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


class Served(nn.Module):
    """The graph of an integer form with the inputs of an exported file.

    These are images and, for a dynamic student, the Lagrange multiplier.
    """

    def __init__(self, network: nn.Module, dynamic: bool) -> None:
        super().__init__()
        self.network = network.eval()
        self.dynamic = dynamic

    def forward(self, images: Tensor, multiplier: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (B, classes) logits and (B, S) int64 widths.

        Args:
            images: (B, C, H, W) normalized images.
            multiplier: () float64 Lagrange multiplier.
        """
        logits, bits = self.network(images, None, multiplier)
        return logits, bits


def example(form: IntegerForm) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """Return inputs of ``Served`` and their dynamic axes: any batch size."""
    inputs = (torch.zeros(2, *form.input_shape), torch.zeros((), dtype=torch.float64))
    axes: tuple[dict[int, Any], ...] = ({0: torch.export.Dim("batch")}, {})
    count = 2 if form.dynamic else 1
    return inputs[:count], axes[:count]


def program_of(form: IntegerForm) -> torch.export.ExportedProgram:
    """Return the program of an integer form, for any batch size."""
    inputs, axes = example(form)
    program = torch.export.export(Served(form.network, form.dynamic), inputs, dynamic_shapes=axes)
    for node in program.graph.nodes:
        for note in ORIGINS:
            node.meta.pop(note, None)
    return program


def described(student: Student) -> dict[str, Any]:
    """Return the facts in an exported file (docs/format.md), in types of JSON."""
    facts = {name: student.description.get(name) for name in KNOWN}
    facts["interpolation"] = student.description.get("interpolation", "bilinear")
    if facts["source"] is not None and Path(facts["source"]).is_absolute():
        # The same file on every machine, without the path of a folder of this one.
        facts["source"] = Path(facts["source"]).name
    facts["activation_bits"] = list(student.scheme.activation_bits)
    facts["weight_bits"] = student.scheme.weight_bits
    facts["sites"] = list(student.site_names)
    if student.scheme.mixed is not None:
        facts["mixed"] = student.scheme.mixed.model_dump()
    return facts


def export_program(student: Student, path: str | Path, images: Tensor) -> IntegerForm:
    """Write a student to a ``.pt2`` file, after a check on images, and return its integer form.

    ``torch.export.load(path).module()(images)`` returns logits and bits, for a dynamic student
    ``…(images, multiplier)`` with the () float64 Lagrange multiplier of the bit budget (0: as
    trained). The extra file ``dynadfq.json`` says how images are prepared (docs/format.md).

    Args:
        student: a student of dynamic or fixed width.
        path: the file.
        images: (N, C, H, W) normalized images.

    Raises:
        ValueError: there are no images, or they have another shape than the student's input.
        ArithmeticError: a logit or a width differs from integer form's, or logits are NaN or
            infinite; nothing is written.
    """
    require_images(student, images)
    form = to_integer_form(student)
    notes = json.dumps(described(student) | {"multiplier": student.multiplier}, sort_keys=True)
    content = io.BytesIO()
    torch.export.save(program_of(form), content, extra_files={NOTES: notes})
    content.seek(0)
    _check(torch.export.load(content).module(), form, student.multiplier, images)
    atomic_write(Path(path), content.getvalue())
    return form


def _check(program: nn.Module, form: IntegerForm, multiplier: float, images: Tensor) -> None:
    multipliers = (multiplier, 1.0) if form.dynamic else (None,)
    for batch, value in product((images, images[:1]), multipliers):
        budget = () if value is None else (torch.tensor(value, dtype=torch.float64),)
        logits, bits = program(batch.contiguous(), *budget)
        expected, widths = form.run(batch, multiplier=value)
        require_finite_logits(expected, "the student's own")
        if not (torch.equal(logits, expected) and torch.equal(bits.float(), widths)):
            raise ArithmeticError(
                "the exported program's logits or bits differ from the integer form's; not written"
            )


def require_images(student: Student, images: Tensor) -> None:
    """Check that there are images to check an export on, of the student's input shape.

    Raises:
        ValueError: there are none, or they have another shape.
    """
    if not len(images):
        raise ValueError("images: give at least one; the file is written after a check on them")
    student.require_batch(images)


def require_finite_logits(logits: Tensor, whose: str) -> None:
    """Check that logits are finite.

    Raises:
        ArithmeticError: one is NaN or infinite.
    """
    if not logits.isfinite().all():
        raise ArithmeticError(
            f"{whose} logits are NaN or infinite; not written: "
            "look for such numbers in the images and the weights"
        )
