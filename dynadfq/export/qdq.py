"""A student of scheme ``integer`` as a QDQ file: ONNX that engines run with integer kernels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from dynadfq.export.engines import Answer, onnx_runner, unquantized_onnx
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import EXACT_SUMS, require_onnx
from dynadfq.export.onnx_model import OPSET
from dynadfq.export.program import described, require_finite_logits, require_images
from dynadfq.export.qdq_checks import (
    Agreement,
    EngineCheck,
    Failure,
    Kernels,
    checked_in_onnxruntime,
    compare_in_openvino,
    kernels_in_onnxruntime,
)
from dynadfq.export.qdq_model import InputKind, qdq_model
from dynadfq.quant.config import SITES_PART
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument, require_choice
from dynadfq.runtime.resume import atomic_write
from dynadfq.runtime.timing import interleaved

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
BATCHES = (1, 32)  # images, where the file is timed
REPEATS = 20
PROFILED = 8  # images


@dataclass(frozen=True)
class QdqExport:
    """A QDQ file and the results of its checks, which the JSON file beside it holds too.

    path: the file.
    size: its size in bytes.
    check: what onnxruntime computes.
    kernels: what onnxruntime computes in integers.
    openvino: agreement in OpenVINO, or why it does not run the file; None where it is not
        installed.
    times: rows with ``batch``, ``float_ms`` and ``file_ms`` per image, and their ``ratio``.
    saturating: layers whose sums processors without VNNI may compute wrong.
    """

    path: Path
    size: int
    check: EngineCheck
    kernels: Kernels
    openvino: Agreement | Failure | None
    times: tuple[dict[str, float], ...]
    saturating: tuple[str, ...] = ()

    @property
    def agreement(self) -> Agreement:
        """Agreement with the student in onnxruntime."""
        return self.check.agreement

    def remarks(self) -> list[str]:
        """Return a line for each kind of operation in float32, and for each engine's limits."""
        lines = self.kernels.in_words()
        if isinstance(self.openvino, Failure):
            lines.append(f"OpenVINO does not run the file: {self.openvino.reason}")
        elif self.openvino is not None:
            same, images = self.openvino.same_class, self.openvino.images
            lines.append(f"OpenVINO gives {same} of {images} check images the student's class")
        overflown = self.check.overflown
        if overflown is not None:
            lines.append(
                "on this processor sums overflow (it probably has no VNNI): "
                f"{overflown.same_class} of {overflown.images} check images have the student's "
                f"class, {self.agreement.same_class} with onnxruntime's session option "
                f"{'='.join(EXACT_SUMS)}; weights of 7 bits never overflow"
            )
        elif self.saturating:
            first, *rest = self.saturating
            others = f" and {len(rest)} more" if rest else ""
            lines.append(
                f"x86 processors without VNNI may overflow in {first}{others}; "
                "weights of 7 bits never do"
            )
        return lines


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
    notes = _notes(student, export, content, input)
    text = json.dumps(notes, indent=2, ensure_ascii=False) + "\n"
    atomic_write(notes_path(Path(path)), text.encode())
    return export


def notes_path(path: Path) -> Path:
    """Return the JSON file beside a QDQ file."""
    return path.with_suffix(".json")


def require_own_notes(path: Path) -> None:
    """Check that the JSON file beside a QDQ file replaces none of another kind.

    Raises:
        InvalidArgument: it would, or the QDQ file has the JSON file's name.
    """
    notes = notes_path(path)
    if notes == path:
        raise InvalidArgument("path", f"{path} ends in .json, as the file beside it; use .onnx")
    if not notes.exists():
        return
    try:
        found = json.loads(notes.read_bytes())
    except (OSError, ValueError):
        found = None
    if not (isinstance(found, dict) and "opset" in found):
        raise InvalidArgument(
            "path",
            f"{path} gets a JSON file beside it, and {notes} is there and describes no QDQ file; "
            "choose another name",
        )


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
        "student", f"{problem}; quantize with scheme integer, or export to onnx (onnx-codes)"
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


def _notes(student: Student, export: QdqExport, content: bytes, input: InputKind) -> dict[str, Any]:
    """What the JSON file beside a QDQ file holds (docs/format.md)."""
    return described(student) | {
        "file": export.path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": OPSET,
        "input": {"name": "images", "type": input, "layout": "NCHW"},
        "output": {"name": "logits", "type": "float32"},
        "num_classes": student.description["num_classes"],
        "made_from": {
            "teacher_sha256": student.description.get("sha256"),
            "scheme": student.scheme.model_dump(mode="json"),
            "provenance": student.provenance,
        },
        "bytes": export.size,
        "float_bytes": 4 * _weights(student),
        "onnxruntime": asdict(export.agreement) | asdict(export.kernels),
        "session_options": dict([EXACT_SUMS]) if export.check.exact else {},
        "openvino": None if export.openvino is None else asdict(export.openvino),
        "saturating": list(export.saturating),
        "times": list(export.times),
        "versions": _versions(),
    }


def _weights(student: Student) -> int:
    """Return the number of the network's parameters, without the ranges of activations."""
    named = student.network.named_parameters()
    return sum(one.numel() for name, one in named if not name.startswith(f"{SITES_PART}."))


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
