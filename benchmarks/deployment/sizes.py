"""Bytes of a student as files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from dynadfq.export.files import FORMATS, require, write_file
from dynadfq.export.onnx_export import TOLERANCE
from dynadfq.quant.model import Student
from dynadfq.quant.packing import to_tensors

Size = tuple[str, int]  # of what, bytes


def sizes(student: Student, network: nn.Module, images: Tensor) -> tuple[list[Size], list[str]]:
    """Return file sizes, and a line per file that was not written.

    Exports are checked on ``images`` first.
    """
    tensors = to_tensors(student.network, student.scheme.activation_bits)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("selector.")}
    float_state = {
        name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()
    }
    found = [
        ("float network, safetensors", len(safetensors.torch.save(float_state))),
        ("student, packed codes", len(safetensors.torch.save(tensors))),
        ("student, packed codes without the selector", len(safetensors.torch.save(kept))),
    ]
    missing = []
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            try:
                require([name])
                found.append(
                    (f"student, {name}", write_file(student, name, Path(folder), images)["bytes"])
                )
            except (ImportError, ArithmeticError) as error:
                missing.append(f"{name} (logits within {TOLERANCE}): {error}")
    return found, missing
