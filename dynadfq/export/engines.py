"""A student and its float network as functions of images, in each engine."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynadfq.export import Engine
from dynadfq.export.integer_form import IntegerForm
from dynadfq.export.onnx_export import onnx_session, require_onnx
from dynadfq.export.onnx_model import onnx_model, traced
from dynadfq.export.qdq_model import qdq_model
from dynadfq.quant.model import Student

Answer = Callable[[Tensor], tuple[Tensor, ...]]


class Runner(NamedTuple):
    """A network in an engine.

    name: name of the network.
    float_name: name of the float network in the same engine.
    run: maps (B, C, H, W) images to (B, classes) logits and, for a student, (B, S) widths in bits.
    """

    name: str
    float_name: str
    run: Answer


def runners(
    student: Student, network: nn.Module, codes: IntegerForm, engine: Engine, threads: int
) -> list[Runner]:
    """Return a float network and a student in an engine.

    Args:
        student: the student.
        network: the float network.
        codes: the student's integer form.
        engine: the engine.
        threads: threads that onnxruntime may use.

    Raises:
        ImportError: a package of the engine is not installed.
    """
    if engine is Engine.torch:
        in_torch = Runner("float", "float", lambda images: (network(images),))
        return [in_torch, Runner("student, integer form", "float", codes.run)]
    require_onnx()
    float_model = float_onnx(network, codes.input_shape)
    student_model = onnx_model(codes, student)
    name = "onnxruntime float32"
    run_student = onnx_runner(student_model, ("logits", "bits"), threads)
    found = [
        Runner(name, name, onnx_runner(float_model, ("logits",), threads)),
        Runner("onnxruntime, integer form", name, run_student),
    ]
    if student.scheme.integer:
        qdq = onnx_runner(qdq_model(student).content, ("logits",), threads)
        widths = student.own_allocation.bits

        def run(images: Tensor) -> tuple[Tensor, ...]:
            return *qdq(images), widths.expand(len(images), -1)

        found.append(Runner("onnxruntime, QDQ", name, run))
    return found


def float_onnx(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Return a float network as an ONNX model from ``images`` to ``logits``, for any batch size."""
    # Of maps whose channels are last, torch traces an average pool as a gathering of elements.
    contiguous = deepcopy(network).to(memory_format=torch.contiguous_format)
    axes = ({0: torch.export.Dim("batch")},)
    program = traced(contiguous, (torch.zeros(2, *shape),), axes, (["images"], ["logits"]))
    model: bytes = program.model_proto.SerializeToString()
    return model


class Logits(nn.Module):
    """A student's graph without the widths in its output."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.network = student.network

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, classes) logits of (B, C, H, W) images."""
        logits: Tensor = self.network(images)[0]
        return logits


def unquantized_onnx(student: Student) -> bytes:
    """Return a student without quantization as an ONNX model: its float network."""
    with student.unquantized():
        return float_onnx(Logits(student), student.cost.trace.input_shape)


def onnx_runner(
    model: bytes, outputs: tuple[str, ...], threads: int, exact: bool = False
) -> Answer:
    """Return an ONNX model as a function, in onnxruntime on the CPU; see ``onnx_session``."""
    session = onnx_session(model, threads, exact)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = session.run(outputs, {"images": images.contiguous().numpy()})
        return tuple(map(torch.from_numpy, found))

    return run


def openvino_runner(model: bytes, threads: int = 0) -> Answer | None:
    """Return an ONNX model as a function, in OpenVINO on the CPU; None without OpenVINO.

    Args:
        model: the ONNX file.
        threads: threads that it may use; 0 leaves the number to OpenVINO.
    """
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    network = core.compile_model(core.read_model(model), "CPU", options)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            torch.from_numpy(found) for found in network(images.contiguous().numpy()).values()
        )

    return run
