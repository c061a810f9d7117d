"""A student and its float network as functions of images in each engine: what is compared and timed
side by side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynadfq.export import Engine
from dynadfq.export.int8_form import to_int8_form
from dynadfq.export.integer_form import IntegerForm
from dynadfq.export.onnx_model import onnx_model
from dynadfq.quant.model import Student

Answer = Callable[[Tensor], tuple[Tensor, ...]]


class Runner(NamedTuple):
    """A network in an engine.

    float_name: the name of the float network in the same engine.
    run: (B, C, H, W) images to (B, classes) logits and, of a student, (B, S) widths in bits.
    """

    name: str
    float_name: str
    run: Answer


def runners(
    student: Student, network: nn.Module, codes: IntegerForm, engine: Engine, threads: int
) -> list[Runner]:
    """The float ``network`` in an engine, and the student in it.

    Raises:
        ImportError: a package of the engine is not installed.
        RuntimeError: this machine cannot run the engine; says why.
    """
    in_torch = Runner("float", "float", lambda images: (network(images),))
    if engine is Engine.torch:
        return [in_torch, Runner("student, integer form", "float", codes.run)]
    if engine is Engine.kernels:
        fast = to_int8_form(codes)
        if fast.engine == "integer form":
            raise RuntimeError(f"no 8-bit kernels: {fast.reason}")
        name = "student, integer kernels" + (", not compiled" if fast.engine == "kernels" else "")
        return [in_torch, Runner(name, "float", fast.run)]
    name = "onnxruntime float32"
    return [
        Runner(name, name, session(float_onnx(network, codes.input_shape), ("logits",), threads)),
        Runner(
            "onnxruntime, integer form",
            name,
            session(onnx_model(codes, student, "codes")[0], ("logits", "bits"), threads),
        ),
    ]


def float_onnx(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A float network as an ONNX model from ``images`` to ``logits``, for any batch size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def session(model: bytes, outputs: tuple[str, ...], threads: int) -> Answer:
    """An ONNX model in onnxruntime, on the CPU."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    runtime = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def answer(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            map(torch.from_numpy, runtime.run(outputs, {"images": images.contiguous().numpy()}))
        )

    return answer
