"""A student's code form as a ``torch.export`` program, for torch without this library."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from dynadfq.checkpoint import atomic_write
from dynadfq.deploy.codes import CodeForm, to_codes
from dynadfq.quant.model import Student


class ImagesAlone(nn.Module):
    """A code form's graph without its second input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) int64 widths."""
        logits, bits = self.network(images)
        return logits, bits


def program_of(codes: CodeForm) -> torch.export.ExportedProgram:
    """The program of a code form, for any batch size."""
    example = torch.zeros(2, *codes.input_shape)
    return torch.export.export(ImagesAlone(codes.network), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def export_program(student: Student, path: str | Path, images: Tensor) -> CodeForm:
    """Write a student to a ``.pt2`` file; ``torch.export.load(path).module()(images)`` gives logits and bits.

    The program that was written is read again and tried on (N, C, H, W) normalised ``images`` first.

    Raises:
        ValueError: there are no images.
        ArithmeticError: a logit or a chosen width differs from code form's; nothing is written.
    """
    if not len(images):
        raise ValueError("images: give at least one; the file is only written after a check on them")
    codes, content = to_codes(student), io.BytesIO()
    torch.export.save(program_of(codes), content)
    content.seek(0)
    again = torch.export.load(content).module()
    for batch in (images, images[:1]):
        logits, bits = again(batch.contiguous())
        expected, widths = codes.run(batch)
        if not (torch.equal(logits, expected) and torch.equal(bits.float(), widths)):
            raise ArithmeticError("the exported program's logits or bits differ from code form's; not written")
    atomic_write(Path(path), content.getvalue())
    return codes
