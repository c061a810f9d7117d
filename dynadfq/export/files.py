"""A student as files that run without this library, by the names of ``export.formats``."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from dynadfq.export.onnx_export import export_onnx, require_onnx
from dynadfq.export.onnx_model import OPSET
from dynadfq.export.program import export_program
from dynadfq.quant.model import Student

FORMATS = {
    "onnx-codes": "student.onnx",
    "pt2": "student.pt2",
}


def require(formats: Collection[str]) -> None:
    """Check that the packages that the formats need are installed.

    Raises:
        ImportError: names the missing package.
    """
    if "onnx-codes" in formats:
        require_onnx()


def write_file(student: Student, name: str, folder: Path, images: Tensor) -> dict[str, Any]:
    """Write a student in one format, after a check on images.

    Args:
        student: the student.
        name: a key of ``FORMATS``.
        folder: where the file is written.
        images: (N, C, H, W) normalized images.

    Returns:
        The record of the file: its size in bytes, the check and its versions, the largest
        difference of a logit from integer form's (the chosen widths are equal), and the parts that
        are not computed in integers.

    Raises:
        ArithmeticError: the file's widths or logits differ from integer form's; nothing is written.
    """
    path = folder / FORMATS[name]
    packages = ["torch"]
    record: dict[str, Any] = {"opset": None, "worst_logit_difference": 0.0}
    if name == "onnx-codes":
        export = export_onnx(student, path, images)
        facts = export.facts
        packages += ["onnx", "onnxscript", "onnxruntime"]
        record["opset"] = OPSET
        record["worst_logit_difference"] = export.worst
    else:
        facts = export_program(student, path, images).facts
    return record | {
        "format": name,
        "file": path.name,
        "bytes": path.stat().st_size,
        "images_checked": len(images),
        "bits_equal": True,
        "not_integer": [str(fact) for fact in facts if not fact.exact],
        "versions": {package: version(package) for package in packages},
    }
