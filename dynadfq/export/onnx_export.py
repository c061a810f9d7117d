"""A student as an ONNX file that onnxruntime was seen to compute alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from dynadfq.export.conversion_report import Fact
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.onnx_model import OnnxForm, onnx_model
from dynadfq.export.program import require_finite_logits
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import atomic_write

TOLERANCE = 1e-4  # of logits
CHECK_BATCH = 32  # images
OTHER_MULTIPLIERS = (
    -1.0,
    1.0,
    1e6,
)  # nats for a percentage point: dearer, cheaper, and the cheapest width everywhere


@dataclass(frozen=True)
class Export:
    """What was written, and what the check of it found.

    worst: largest difference of a logit between onnxruntime and integer form, over the images that
        were tried.
    facts: how each layer is computed, as of the conversion.
    kept: layers that "convinteger" left as they are in "codes", because their codes do not fit
    bytes.
    """

    path: Path
    size: int
    images: int
    worst: float
    facts: tuple[Fact, ...]
    kept: tuple[str, ...]


def export_onnx(
    student: Student, path: str | Path, images: Tensor, form: OnnxForm = "codes"
) -> Export:
    """Write a student to an ONNX file, after onnxruntime has answered ``images`` with it.

    Input ``images`` (batch, C, H, W) float32, normalized; a dynamic student also takes
    ``multiplier``, () float64, which may be left out and is then the student's own (0: as trained;
    the higher, the cheaper). Outputs ``logits`` (batch, classes) float32 and ``bits`` (batch, S)
    int64. Weights are integers in the file, 4-bit ones two a byte.

    Args:
        student: it may be dynamic or of fixed width.
        path: the file.
        images: (N, C, H, W) normalized images, real ones or synthetic, that the check is made on.
        form: "codes" multiplies whole numbers in float32; "convinteger" uses ONNX's integer
            operators, which are slow in onnxruntime on a CPU, for other runtimes and for
            verification.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the form is unknown, there are no images, or they are of another shape than the
            student reads.
        ArithmeticError: onnxruntime's bits differ from integer form's, or a logit by more than
            1e-4, or logits are NaN or infinite. Nothing is written.
    """
    require_onnx()
    if form not in get_args(OnnxForm):
        raise ValueError(f"form: {form!r} is none of {', '.join(get_args(OnnxForm))}")
    if not len(images):
        raise ValueError(
            "images: give at least one; the file is only written after a check on them"
        )
    student.require_shape(images)
    codes = to_integer_form(student)
    content, kept = onnx_model(codes, student, form)
    worst = check(content, codes, images)
    atomic_write(Path(path), content)
    return Export(Path(path), len(content), len(images), worst, codes.facts, tuple(kept))


def check(content: bytes, codes: IntegerForm, images: Tensor) -> float:
    """Run onnxruntime on (N, C, H, W) images, in batches and alone; returns the largest difference
    of a logit.

    Of a dynamic student the first batch is also tried at other multipliers.

    Raises:
        ArithmeticError: bits differ, or a logit by more than 1e-4, or logits are NaN or infinite.
    """
    session, worst = _session(content), 0.0
    tries: list[tuple[Tensor, float | None]] = [
        (batch, None) for batch in (*images.split(CHECK_BATCH), images[:1])
    ]
    tries += [
        (images[:CHECK_BATCH], multiplier) for multiplier in OTHER_MULTIPLIERS if codes.dynamic
    ]
    for batch, multiplier in tries:
        logits, bits = codes.run(batch, multiplier=multiplier)
        require_finite_logits(logits, "the student's own")
        inputs = {"images": batch.contiguous().numpy()}
        if multiplier is not None:
            inputs["multiplier"] = np.array(multiplier, dtype=np.float64)
        theirs, their_bits = session.run(["logits", "bits"], inputs)
        if (wrong := int((torch.from_numpy(their_bits) != bits).any(dim=1).sum())) > 0:
            raise ArithmeticError(
                f"onnxruntime chooses other bits for {wrong} of {len(batch)} images; not written"
            )
        worst = max(worst, _difference(torch.from_numpy(theirs), logits))
    return worst


def _difference(theirs: Tensor, ours: Tensor) -> float:
    """Largest difference of a logit, if it is within the tolerance. A later ``max`` would pass over
    a NaN.
    """
    require_finite_logits(theirs, "onnxruntime's")
    difference = float((theirs - ours).abs().max())
    if not difference <= TOLERANCE:
        raise ArithmeticError(
            f"onnxruntime's logits differ by up to {difference:.3g}, more than {TOLERANCE}; not written"
        )
    return difference


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def require_onnx() -> None:
    """See that the packages of an ONNX export are installed.

    Raises:
        ImportError: names those that are not.
    """
    missing = []
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise ImportError(f"ONNX export needs {', '.join(missing)}: pip install 'dynadfq[deploy]'")
