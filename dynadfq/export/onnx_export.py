"""A student as an ONNX file, written after onnxruntime has computed the same with it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynadfq.export.conversion_report import Fact
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.onnx_model import onnx_model
from dynadfq.export.program import require_finite_logits, require_images
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import atomic_write

TOLERANCE = 1e-4  # of logits; of the largest one, if above 1, where products are of floats
EXACT_SUMS = ("session.x64quantprecision", "1")  # an entry of onnxruntime's session options
CHECK_BATCH = 32  # images
# More expensive widths, cheaper ones, and the cheapest everywhere.
CHECK_MULTIPLIERS = (-1.0, 1.0, 1e6)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """An exported file and the result of its check.

    path: the file.
    size: its size in bytes.
    images: number of images of the check.
    worst: largest difference of a logit between onnxruntime and integer form on these images.
    facts: how each layer is computed.
    """

    path: Path
    size: int
    images: int
    worst: float
    facts: tuple[Fact, ...]


def export_onnx(student: Student, path: str | Path, images: Tensor) -> Export:
    """Write a student to an ONNX file, after a check in onnxruntime.

    Its inputs are ``images`` (batch, C, H, W) float32, normalized, and for a dynamic student
    ``multiplier``, () float64, the Lagrange multiplier of the bit budget, which may be left out and
    is then the student's own. Its outputs are ``logits`` (batch, classes) float32 and ``bits``
    (batch, S) int64. Weights are integers in the file, two 4-bit ones in a byte.

    Args:
        student: a student of dynamic or fixed width.
        path: the file.
        images: (N, C, H, W) normalized images for the check, real or synthetic ones.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: there are no images, or they have another shape than the student's input.
        ArithmeticError: onnxruntime's bits differ from integer form's, or a logit by more than
            ``check`` allows, or logits are NaN or infinite; nothing is written.
    """
    require_onnx()
    require_images(student, images)
    integer_form = to_integer_form(student)
    content = onnx_model(integer_form, student)
    worst = check(content, integer_form, images)
    atomic_write(Path(path), content)
    return Export(Path(path), len(content), len(images), worst, integer_form.facts)


def check(content: bytes, form: IntegerForm, images: Tensor) -> float:
    """Compare onnxruntime with integer form, and return the largest difference of a logit.

    Images are run in batches and one alone; for a dynamic student, the first batch also at other
    multipliers.

    Args:
        content: the ONNX file.
        form: the student's integer form.
        images: (N, C, H, W) normalized images.

    Raises:
        ArithmeticError: bits differ, or a logit by more than 1e-4 (with float activations, 1e-4 of
            the largest logit if that is above 1), or logits are NaN or infinite.
    """
    session = onnx_session(content)
    runs: list[tuple[Tensor, float | None]] = [
        (batch, None) for batch in (*images.split(CHECK_BATCH), images[:1])
    ]
    if form.dynamic:
        runs += [(images[:CHECK_BATCH], multiplier) for multiplier in CHECK_MULTIPLIERS]
    worst = 0.0
    for batch, multiplier in runs:
        logits, bits = form.run(batch, multiplier=multiplier)
        require_finite_logits(logits, "the student's own")
        inputs = {"images": batch.contiguous().numpy()}
        if multiplier is not None:
            inputs["multiplier"] = np.array(multiplier, dtype=np.float64)
        their_logits, their_bits = session.run(["logits", "bits"], inputs)
        wrong = int((torch.from_numpy(their_bits) != bits).any(dim=1).sum())
        if wrong:
            raise ArithmeticError(
                f"onnxruntime chooses other bits for {wrong} of {len(batch)} images; not written"
            )
        unit = 1.0 if form.wide else max(1.0, float(logits.abs().max()))
        worst = max(worst, _difference(torch.from_numpy(their_logits), logits, TOLERANCE * unit))
    return worst


def _difference(theirs: Tensor, ours: Tensor, tolerance: float) -> float:
    """The largest difference of a logit, if it is within the tolerance."""
    require_finite_logits(theirs, "onnxruntime's")
    difference = float((theirs - ours).abs().max())
    if not difference <= tolerance:
        raise ArithmeticError(
            f"onnxruntime's logits differ by up to {difference:.3g}, more than {tolerance:.3g}; "
            "not written"
        )
    return difference


def onnx_session(content: bytes, threads: int = 0, exact: bool = False) -> Any:
    """Return an onnxruntime session of an ONNX model on the CPU.

    Args:
        content: the ONNX file.
        threads: threads that it may use; 0 leaves the number to onnxruntime.
        exact: avoid the overflow of sums of 8-bit products on x86 processors without VNNI.
    """
    import onnxruntime  # optional dependency

    options = session_options(threads, exact)
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def session_options(threads: int = 0, exact: bool = False) -> Any:
    """Return onnxruntime's options of a session; see ``onnx_session``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if exact:
        options.add_session_config_entry(*EXACT_SUMS)
    return options


def require_onnx() -> None:
    """Check that the packages of an ONNX export are installed.

    Raises:
        ImportError: names the missing ones.
    """
    missing = []
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise ImportError(
            f"ONNX export needs {', '.join(missing)}: pip install {' '.join(missing)}"
        )
