"""A student of scheme ``integer`` as a QDQ file: ONNX that engines run with integer kernels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from dynadfq.export.engines import Answer, onnx_runner, unquantized_onnx
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import require_onnx
from dynadfq.export.program import require_finite_logits, require_images
from dynadfq.export.qdq_checks import (
    checked_in_onnxruntime,
    compare_in_openvino,
    kernels_in_onnxruntime,
)
from dynadfq.export.qdq_model import InputKind, qdq_model
from dynadfq.export.qdq_notes import QdqExport, require_own_notes, write_notes
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument, require_choice
from dynadfq.runtime.resume import atomic_write
from dynadfq.runtime.timing import interleaved

BATCHES = (1, 32)  # images, where the file is timed
REPEATS = 20
PROFILED = 8  # images


def export_qdq(
    student: Student,
    path: str | Path,
    images: Tensor,
    input: InputKind = "float32",
    timed: bool = True,
) -> QdqExport:
    """Write a student of scheme "integer" to an ONNX file for integer engines, after checks.

    Weights are int8 with one scale per output channel (int4 in the file where they have up to 4
    bits), biases int32, activations uint8 with one scale and zero point per tensor. The input
    ``images`` is (batch, C, H, W), the output ``logits`` (batch, classes) float32. Beside the file,
    a JSON file of the same name says how images are prepared and what was measured.

    Args:
        student: a student of scheme "integer".
        path: the file.
        images: (N, C, H, W) normalized images for the check, real or synthetic ones.
        input: "float32" for normalized images, "uint8" for pixels, which the file normalizes.
        timed: measure the file's time beside that of the float network; otherwise both files are
            the same on every machine.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        InvalidArgument: the student has per-image widths or another scheme, the JSON file beside
            would replace another file, the input kind is unknown, there are no images, or they
            have another shape than the student's input.
        ArithmeticError: onnxruntime gives fewer than 99.8 % of the images the student's class, or
            logits are NaN or infinite; nothing is written.
    """
    import onnx

    require_onnx()
    require_integer(student)
    require_own_notes(Path(path))
    require_choice("input", input, get_args(InputKind))
    require_images(student, images)
    read = images
    if input == "uint8":
        read = student.preprocessing.denormalize(images).round().clamp(0, 255).byte()
        images = student.preprocessing.normalize(read)
    expected = to_integer_form(student)(images)
    require_finite_logits(expected, "the student's own")
    content, float_layers, saturating = qdq_model(student, input)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    check = checked_in_onnxruntime(content, expected, read, bool(saturating))
    kernels = kernels_in_onnxruntime(content, read[:PROFILED], float_layers)
    openvino = compare_in_openvino(content, expected, read)
    times = _times(content, unquantized_onnx(student), images, read) if timed else ()
    export = QdqExport(
        Path(path),
        len(content),
        check,
        kernels,
        openvino,
        times,
        tuple(saturating),
    )
    atomic_write(Path(path), content)
    write_notes(student, export, content, input)
    return export


def require_integer(student: Student) -> None:
    """Check that a student can be written as a QDQ file.

    Raises:
        InvalidArgument: it has per-image widths, or another scheme.
    """
    scheme = student.scheme
    if scheme.dynamic:
        widths = list(scheme.activation_bits)
        problem = f"chooses among {widths} bits for every image, which a QDQ file cannot"
    elif not scheme.integer:
        problem = "has scheme paper, which integer engines cannot run"
    else:
        return
    raise InvalidArgument(
        "student",
        f"{problem}; quantize with scheme integer, or export ONNX of codes (dynadfq.export_onnx, "
        "--to onnx, onnx-codes in export.formats)",
    )


def _times(
    content: bytes, float_content: bytes, images: Tensor, read: Tensor
) -> tuple[dict[str, float], ...]:
    """Median milliseconds per image, on one thread, of the file and of the float network."""
    networks: dict[str, tuple[Answer, Tensor]] = {
        "float": (onnx_runner(float_content, ("logits",), threads=1), images),
        "file": (onnx_runner(content, ("logits",), threads=1), read),
    }
    rows = []
    for batch in BATCHES:
        calls = {
            name: partial(run, given[torch.arange(batch) % len(given)])
            for name, (run, given) in networks.items()
        }
        found = interleaved(calls, REPEATS)
        milliseconds = {name: 1000 * time.median / batch for name, time in found.items()}
        rows.append(
            {
                "batch": batch,
                "float_ms": milliseconds["float"],
                "file_ms": milliseconds["file"],
                "ratio": milliseconds["file"] / milliseconds["float"],
            }
        )
    return tuple(rows)
