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

NOTES = "dynadfq.json"  # name of the extra file with what ``described`` returns, and the multiplier
KNOWN = ("architecture", "class_names", "input_shape", "mean", "resize", "source", "std")
# Notes on where in the sources a node comes from: half of a file, and another on every machine.
ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


class Served(nn.Module):
    """A integer form's graph with the inputs that a user of a file gives: images and, where there
    is a choice, a multiplier.
    """

    def __init__(self, network: nn.Module, dynamic: bool) -> None:
        super().__init__()
        self.network, self.dynamic = network.eval(), dynamic

    def forward(self, images: Tensor, multiplier: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images and a () float64 multiplier to (B, classes) logits and (B, S) int64
        widths.
        """
        logits, bits = self.network(images, None, multiplier)
        return logits, bits


def example(codes: IntegerForm) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """Inputs of ``Served`` and their dynamic axes: any batch size."""
    inputs = (torch.zeros(2, *codes.input_shape), torch.zeros((), dtype=torch.float64))
    axes: tuple[dict[int, Any], ...] = ({0: torch.export.Dim("batch")}, {})
    count = 2 if codes.dynamic else 1
    return inputs[:count], axes[:count]


def program_of(codes: IntegerForm) -> torch.export.ExportedProgram:
    """The program of a integer form, for any batch size."""
    inputs, axes = example(codes)
    program = torch.export.export(Served(codes.network, codes.dynamic), inputs, dynamic_shapes=axes)
    for node in program.graph.nodes:
        for note in ORIGINS:
            node.meta.pop(note, None)
    return program


def described(student: Student) -> dict[str, Any]:
    """What a user of an exported file has to know, JSON-able: preprocessing, classes, widths
    (docs/format.md).
    """
    facts = {name: student.description.get(name) for name in KNOWN}
    facts["interpolation"] = student.description.get("interpolation", "bilinear")
    if facts["source"] is not None and Path(facts["source"]).is_absolute():
        facts["source"] = Path(
            facts["source"]
        ).name  # the same file on every machine, and no folder of this one in it
    facts |= {
        "activation_bits": list(student.scheme.activation_bits),
        "weight_bits": student.scheme.weight_bits,
    }
    return facts | {"sites": list(student.site_names)}


def export_program(student: Student, path: str | Path, images: Tensor) -> IntegerForm:
    """Write a student to a ``.pt2`` file; ``torch.export.load(path).module()(images)`` gives logits
    and bits, for a dynamic student ``…(images, multiplier)`` with the budget's () float64
    multiplier (0: as trained). How images are prepared is said by the extra file ``dynadfq.json``
    (docs/format.md).

    The program that was written is read again and tried on (N, C, H, W) normalized ``images``
    first.

    Raises:
        ValueError: there are no images, or they are of another shape than the student reads.
        ArithmeticError: a logit or a chosen width differs from integer form's, or logits are NaN or
            infinite; nothing is written.
    """
    if not len(images):
        raise ValueError(
            "images: give at least one; the file is only written after a check on them"
        )
    student.require_shape(images)
    codes, content = to_integer_form(student), io.BytesIO()
    notes = json.dumps(described(student) | {"multiplier": student.multiplier}, sort_keys=True)
    torch.export.save(program_of(codes), content, extra_files={NOTES: notes})
    content.seek(0)
    again = torch.export.load(content).module()
    multipliers = (student.multiplier, 1.0) if codes.dynamic else (None,)
    for batch, multiplier in product((images, images[:1]), multipliers):
        budget = () if multiplier is None else (torch.tensor(multiplier, dtype=torch.float64),)
        logits, bits = again(batch.contiguous(), *budget)
        expected, widths = codes.run(batch, multiplier=multiplier)
        require_finite_logits(expected, "the student's own")
        if not (torch.equal(logits, expected) and torch.equal(bits.float(), widths)):
            raise ArithmeticError(
                "the exported program's logits or bits differ from integer form's; not written"
            )
    atomic_write(Path(path), content.getvalue())
    return codes


def require_finite_logits(logits: Tensor, whose: str) -> None:
    """See that logits are numbers to compare with others.

    Raises:
        ArithmeticError: one is NaN or infinite.
    """
    if not logits.isfinite().all():
        raise ArithmeticError(
            f"{whose} logits are NaN or infinite; not written: look for such numbers in the images and the weights"
        )
