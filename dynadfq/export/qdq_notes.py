"""The JSON file beside a QDQ file: how images are prepared, and the results of its checks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dynadfq.export.onnx_export import EXACT_SUMS
from dynadfq.export.onnx_model import OPSET
from dynadfq.export.program import described
from dynadfq.export.qdq_checks import Agreement, EngineCheck, Failure, Kernels
from dynadfq.export.qdq_model import InputKind
from dynadfq.quant.config import SITES_PART
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import atomic_write

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")


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


def write_notes(student: Student, export: QdqExport, content: bytes, input: InputKind) -> None:
    """Write the JSON file beside a QDQ file (docs/format.md)."""
    notes = described(student) | {
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
    text = json.dumps(notes, indent=2, ensure_ascii=False) + "\n"
    atomic_write(notes_path(export.path), text.encode())


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
