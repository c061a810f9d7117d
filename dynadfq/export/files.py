"""A student as files that run without this library, by the names of ``export.formats``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from dynadfq.export.conversion_report import Fact
from dynadfq.export.onnx_export import export_onnx, require_onnx
from dynadfq.export.onnx_model import OPSET, OnnxForm
from dynadfq.export.program import export_program
from dynadfq.quant.model import Student

Record = dict[str, Any]


def require(formats: Iterable[str]) -> None:
    """See that what the formats need is installed, before any work is done.

    Raises:
        ImportError: names what is missing.
    """
    if any(name.startswith("onnx") for name in formats):
        require_onnx()


def write_file(student: Student, name: str, folder: Path, images: Tensor) -> Record:
    """Write a student in one format, after the file has answered (N, C, H, W) normalized
    ``images``.

    Returns what is known of the file: its size in bytes, what it was checked on and with, the
    largest difference of a logit from integer form's (the widths chosen were the same, or there
    would be no file), the parts that are not computed in integers, and the layers that
    ``convinteger`` left in floats.

    Raises:
        ArithmeticError: the file's widths or logits differ from integer form's; nothing is written.
    """
    file, write = FORMATS[name]
    found, facts = write(student, folder / file, images)
    return found | {
        "format": name,
        "file": file,
        "bytes": (folder / file).stat().st_size,
        "images_checked": len(images),
        "bits_equal": True,
        "not_integer": [str(fact) for fact in facts if not fact.exact],
    }


def _onnx(form: OnnxForm) -> Callable[[Student, Path, Tensor], tuple[Record, tuple[Fact, ...]]]:
    def write(student: Student, path: Path, images: Tensor) -> tuple[Record, tuple[Fact, ...]]:
        export = export_onnx(student, path, images, form)
        found = {
            "opset": OPSET,
            "worst_logit_difference": export.worst,
            "kept_layers": list(export.kept),
        }
        return found | {
            "versions": _versions("torch", "onnx", "onnxscript", "onnxruntime")
        }, export.facts

    return write


def _program(student: Student, path: Path, images: Tensor) -> tuple[Record, tuple[Fact, ...]]:
    codes = export_program(student, path, images)
    found: Record = {"opset": None, "worst_logit_difference": 0.0, "kept_layers": []}
    return found | {"versions": _versions("torch")}, codes.facts


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


FORMATS = {
    "onnx-codes": ("student.onnx", _onnx("codes")),
    "onnx-convinteger": ("student-convinteger.onnx", _onnx("convinteger")),
    "pt2": ("student.pt2", _program),
}
