"""Checks of a QDQ file: agreement with the student, and what an engine computes in integers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynadfq.export.engines import Answer, onnx_runner
from dynadfq.export.onnx_export import CHECK_BATCH, session_options
from dynadfq.export.openvino_process import OpenVINOFailed, is_installed, openvino_logits
from dynadfq.export.program import require_finite_logits
from dynadfq.runtime.errors import first_line

SAME_CLASS = 0.998  # share of the check images; fewer are refused
PROFILED_RUNS = 5  # of which the shortest time of each operation counts
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
# Products in float32, under the names that they have after onnxruntime's optimizations.
PRODUCTS = frozenset(
    ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits", "Attention")
)


@dataclass(frozen=True)
class Agreement:
    """How far an engine agrees with the student.

    images: number of images.
    same_class: images with the same class.
    worst: the largest difference of a logit.
    """

    images: int
    same_class: int
    worst: float

    @property
    def sufficient(self) -> bool:
        """Whether enough images have the same class for the file to be the student."""
        return self.same_class >= SAME_CLASS * self.images


@dataclass(frozen=True)
class EngineCheck:
    """What onnxruntime computes of a file.

    agreement: with the student.
    exact: whether it was run with the option for exact sums.
    overflown: agreement without that option, where fewer images have the same class.
    """

    agreement: Agreement
    exact: bool
    overflown: Agreement | None


@dataclass(frozen=True)
class Failure:
    """Why an engine does not run a file.

    reason: the type and the first line of its error.
    """

    reason: str


@dataclass(frozen=True)
class FloatNode:
    """An operation that the engine computes in float32.

    name: the student's module that it belongs to.
    operator: in ONNX.
    share_of_time: of the time of all operations, 0 … 1.
    reason: why it is not computed in integers.
    """

    name: str
    operator: str
    share_of_time: float
    reason: str


@dataclass(frozen=True)
class Kernels:
    """What an engine made of a file.

    counts: number of operations by name.
    floats: those in float32, by decreasing share of the time.
    """

    counts: dict[str, int]
    floats: tuple[FloatNode, ...]

    def in_words(self) -> list[str]:
        """Return a line for each kind of operation in float32."""
        lines = []
        for operator, reason in dict.fromkeys((node.operator, node.reason) for node in self.floats):
            same = [
                node for node in self.floats if (node.operator, node.reason) == (operator, reason)
            ]
            share = sum(node.share_of_time for node in same)
            others = f" and {len(same) - 1} more" if len(same) > 1 else ""
            lines.append(
                f"{operator} of {same[0].name}{others}: float32, {share:.1%} of the time ({reason})"
            )
        return lines


def compare(answer: Answer, expected: Tensor, images: Tensor) -> Agreement:
    """Compare logits of an engine, run in batches, with those of the student.

    Args:
        answer: maps (B, C, H, W) images to logits.
        expected: (N, classes) logits of the student.
        images: (N, C, H, W), as the file reads them.

    Raises:
        ArithmeticError: logits are NaN or infinite.
    """
    logits = logits_of(answer, images)
    require_finite_logits(logits, "the file's")
    return agreement(logits, expected)


def logits_of(answer: Answer, images: Tensor) -> Tensor:
    """Return the (N, classes) logits of an engine, run in batches."""
    return torch.cat([answer(batch)[0] for batch in images.split(CHECK_BATCH)])


def agreement(logits: Tensor, expected: Tensor) -> Agreement:
    """Compare (N, classes) finite logits of an engine with those of the student."""
    same = int((logits.argmax(dim=1) == expected.argmax(dim=1)).sum())
    return Agreement(len(logits), same, float((logits - expected).abs().max()))


def compare_in_openvino(
    content: bytes, expected: Tensor, images: Tensor
) -> Agreement | Failure | None:
    """Run a file in OpenVINO, which need not run it: an error or a crash of OpenVINO is a result.

    Args:
        content: the file.
        expected: (N, classes) logits of the student.
        images: (N, C, H, W), as the file reads them.

    Returns:
        The agreement with the student; why OpenVINO gives no finite logits; None without OpenVINO.
    """
    if not is_installed():
        return None
    try:
        found = openvino_logits(content, images.contiguous().numpy(), CHECK_BATCH)
    except OpenVINOFailed as error:
        return Failure(first_line(error))
    logits = torch.from_numpy(found)
    if not logits.isfinite().all():
        return Failure("its logits are not finite")
    return agreement(logits, expected)


def checked_in_onnxruntime(
    content: bytes, expected: Tensor, images: Tensor, may_overflow: bool
) -> EngineCheck:
    """Check that a file computes what the student computes.

    If sums of the file can overflow on some processors, it is checked with onnxruntime's option for
    exact sums. onnxruntime cannot do this for files whose layers share a weight; these are checked
    without it.

    Args:
        content: the file.
        expected: (N, classes) logits of the student.
        images: (N, C, H, W), as the file reads them.
        may_overflow: whether sums of the file can overflow on processors without VNNI.

    Returns:
        The checks.

    Raises:
        ArithmeticError: fewer than 99.8 % of the images have the same class, or logits are NaN or
            infinite.
    """

    def compared(exact: bool) -> Agreement:
        answer = onnx_runner(content, ("logits",), threads=0, exact=exact)
        return compare(answer, expected, images)

    found = default = compared(exact=False)
    exact, hint = False, ""
    if may_overflow:
        try:
            found = compared(exact=True)
            exact = True
        except ArithmeticError:
            raise
        except Exception:  # onnxruntime's own errors have no common type
            hint = "; on processors without VNNI, sums may overflow: use 7-bit weights"
    if not found.sufficient:
        raise ArithmeticError(
            f"onnxruntime gives {found.same_class} of {found.images} images the student's class, "
            f"fewer than {SAME_CLASS:.1%} (logits differ by up to {found.worst:.3g}); not written"
            f"{hint}"
        )
    return EngineCheck(found, exact, default if default.same_class < found.same_class else None)


def kernels_in_onnxruntime(content: bytes, images: Tensor, unread: Collection[str]) -> Kernels:
    """Run a file several times with onnxruntime's profiler.

    Args:
        content: the file.
        images: a batch, as the file reads it.
        unread: names of layers that read no quantized activation.
    """
    import onnxruntime  # optional dependency

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        for _ in range(PROFILED_RUNS):
            session.run(None, {"images": images.contiguous().numpy()})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = _shortest(events)
    total = sum(node["dur"] for node in nodes) or 1
    counts: dict[str, int] = {}
    floats = []
    for node in nodes:
        operator = node["args"]["op_name"]
        counts[operator] = counts.get(operator, 0) + 1
        if operator not in CONVERSIONS and not _reads_codes(node):
            name = node["name"].removesuffix("_kernel_time").split("/")[0]
            reason = (
                "its input is not quantized"
                if name in unread
                else f"onnxruntime has no integer {operator} for it"
            )
            floats.append(FloatNode(name, operator, node["dur"] / total, reason))
    floats.sort(key=lambda node: -node.share_of_time)
    return Kernels(counts, tuple(floats))


def _shortest(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operations of a profile in order, each at its shortest in all runs."""
    nodes = [event for event in events if event["name"].endswith("_kernel_time")]
    shortest: dict[str, dict[str, Any]] = {}
    for node in sorted(nodes, key=lambda node: node["dur"], reverse=True):
        shortest[node["args"]["node_index"]] = node
    return [shortest[index] for index in dict.fromkeys(n["args"]["node_index"] for n in nodes)]


def _reads_codes(node: dict[str, Any]) -> bool:
    """Whether the first tensor that an operation reads is of bytes or integers.

    Scales and zero points are scalars.
    """
    tensors = [kind for kind in node["args"]["input_type_shape"] if any(kind.values())]
    return bool(tensors) and not any(kind.startswith("float") for kind in tensors[0])
