"""A student as files that run without this library, by the names of ``export.formats``."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from dynadfq.export.conversion_report import in_floats
from dynadfq.export.onnx_export import PACKAGES, export_onnx, require_onnx
from dynadfq.export.onnx_model import OPSET
from dynadfq.export.program import export_program
from dynadfq.export.qdq import export_qdq
from dynadfq.quant.model import Student

FORMATS = {
    "qdq": "student-qdq.onnx",
    "onnx-codes": "student.onnx",
    "pt2": "student.pt2",
}


def require(formats: Collection[str]) -> None:
    """Check that the packages that the formats need are installed.

    Raises:
        ImportError: names the missing package.
    """
    if {"qdq", "onnx-codes"} & set(formats):
        require_onnx()


def write_file(student: Student, name: str, folder: Path, images: Tensor) -> dict[str, Any]:
    """Write a student in one format, after a check on images.

    Args:
        student: the student.
        name: a key of ``FORMATS``.
        folder: where the file is written.
        images: (N, C, H, W) normalized images.

    Returns:
        The record of the file: its size in bytes, the number of images of the check, the largest
        difference of a logit from the student's, the parts that are not computed in integers, and
        versions of packages.

    Raises:
        InvalidArgument: the student does not fit the format.
        ArithmeticError: the file does not compute what the student does; nothing is written.
    """
    path = folder / FORMATS[name]
    worst = 0.0
    if name == "qdq":  # without times, which would differ from run to run
        qdq = export_qdq(student, path, images, timed=False)
        worst = qdq.agreement.worst
        not_integer = [f"{node.name}: {node.operator} in float32" for node in qdq.kernels.floats]
    else:
        if name == "onnx-codes":
            export = export_onnx(student, path, images)
            worst, facts = export.worst, export.facts
        else:
            facts = export_program(student, path, images).facts
        not_integer = in_floats(facts)
    packages = ["torch"] if name == "pt2" else ["torch", *PACKAGES]
    return {
        "format": name,
        "file": path.name,
        "bytes": path.stat().st_size,
        "opset": None if name == "pt2" else OPSET,
        "images_checked": len(images),
        "worst_logit_difference": worst,
        "not_integer": not_integer,
        "versions": {package: version(package) for package in packages},
    }
