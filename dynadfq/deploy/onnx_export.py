"""A student as an ONNX file that onnxruntime was seen to compute alike."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from dynadfq.checkpoint import atomic_write
from dynadfq.deploy.codes import CodeForm, to_codes
from dynadfq.deploy.facts import Fact
from dynadfq.deploy.modules import WeightCodes
from dynadfq.deploy.program import ImagesAlone
from dynadfq.quant.model import Student

if TYPE_CHECKING:
    import onnx_ir

OnnxForm = Literal["codes", "convinteger"]
TOLERANCE = 1e-4  # of logits
OPSET = 21  # the first with 4-bit integers
FOLDED = 64  # values: what is larger stays an integer initialiser with a Cast behind it
CHECK_BATCH = 32  # images


@dataclass(frozen=True)
class Export:
    """What was written, and what the check of it found.

    worst: largest difference of a logit between onnxruntime and code form, over the images that were tried.
    facts: how each layer is computed, as of the conversion.
    kept: layers that "convinteger" left as they are in "codes", because their codes do not fit bytes.
    """

    path: Path
    size: int
    images: int
    worst: float
    facts: tuple[Fact, ...]
    kept: tuple[str, ...]


def export_onnx(student: Student, path: str | Path, images: Tensor, form: OnnxForm = "codes") -> Export:
    """Write a student to an ONNX file, after onnxruntime has answered ``images`` with it.

    Input ``images`` (batch, C, H, W) float32, normalised; outputs ``logits`` (batch, classes) float32 and ``bits``
    (batch, S) int64. Weights are integers in the file, and 4-bit ones two a byte.

    Args:
        student: it may be dynamic or of fixed width.
        path: the file.
        images: (N, C, H, W) normalised images, real ones or synthetic, that the check is made on.
        form: "codes" multiplies whole numbers in float32; "convinteger" uses ONNX's integer operators, which are
            slow in onnxruntime on a CPU, for other runtimes and for verification.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the form is unknown or there are no images.
        ArithmeticError: onnxruntime's bits differ from code form's, or a logit by more than 1e-4. Nothing is written.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    if form not in get_args(OnnxForm):
        raise ValueError(f"form: {form!r} is none of {', '.join(get_args(OnnxForm))}")
    if not len(images):
        raise ValueError("images: give at least one; the file is only written after a check on them")
    codes = to_codes(student)
    content, kept = _model(codes, student, form)
    worst = check(content, codes, images)
    atomic_write(Path(path), content)
    return Export(Path(path), len(content), len(images), worst, codes.facts, tuple(kept))


def check(content: bytes, codes: CodeForm, images: Tensor) -> float:
    """Run onnxruntime on (N, C, H, W) images, whole and one at a time; returns the largest difference of a logit.

    Raises:
        ArithmeticError: bits differ, or a logit by more than 1e-4.
    """
    session, worst = _session(content), 0.0
    for batch in (*images.split(CHECK_BATCH), images[:1]):
        logits, bits = codes.run(batch)
        theirs, their_bits = session.run(["logits", "bits"], {"images": batch.contiguous().numpy()})
        if (wrong := int((torch.from_numpy(their_bits) != bits).any(dim=1).sum())) > 0:
            raise ArithmeticError(f"onnxruntime chooses other bits for {wrong} of {len(batch)} images; not written")
        worst = max(worst, float((torch.from_numpy(theirs) - logits).abs().max()))
        if not worst <= TOLERANCE:
            raise ArithmeticError(
                f"onnxruntime's logits differ by up to {worst:.3g}, more than {TOLERANCE}; not written"
            )
    return worst


def _model(codes: CodeForm, student: Student, form: OnnxForm) -> tuple[bytes, list[str]]:
    """The serialised model, and the layers that kept the form "codes"."""
    import onnx_ir
    from onnxscript.optimizer import optimize_ir

    from dynadfq.deploy.integer_ops import translations, with_integer_products

    network = deepcopy(codes.network)
    kept = with_integer_products(network) if form == "convinteger" else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ImagesAlone(network),
            (torch.zeros(2, *codes.input_shape),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits", "bits"],
            opset_version=OPSET,
            optimize=False,  # with its own limits it would fold integer weights to floats
            verbose=False,
            custom_translation_table=translations(),
        )
    assert program is not None
    model = program.model
    optimize_ir(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    _narrow(model, {name: m.bits for name, m in network.named_modules() if isinstance(m, WeightCodes)})
    _describe(model, student)
    return onnx_ir.to_proto(model).SerializeToString(), kept


def _narrow(model: onnx_ir.Model, bits: dict[str, int]) -> None:
    """Store weight codes of up to 4 bits as 4-bit integers."""
    import ml_dtypes
    import onnx_ir

    for name, value in model.graph.initializers.items():
        owner = name.removeprefix("network.").removesuffix(".codes")
        if name.endswith(".codes") and bits.get(owner, 8) <= 4 and value.const_value is not None:
            codes = value.const_value.numpy().astype(ml_dtypes.uint4)
            value.const_value = onnx_ir.tensor(codes, name=name)
            value.dtype = onnx_ir.DataType.UINT4


def _describe(model: onnx_ir.Model, student: Student) -> None:
    """What a user of the file has to know, as metadata; the exporter's notes on every node go."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    known = ("class_names", "mean", "std", "input_shape", "architecture", "source")
    card = {name: student.description.get(name) for name in known}
    card |= {"activation_bits": list(student.scheme.activation_bits), "weight_bits": student.scheme.weight_bits}
    card |= {"sites": list(student.site_names)}
    model.metadata_props.clear()
    model.metadata_props["dynadfq"] = json.dumps(card, sort_keys=True)
    model.producer_name = "dynadfq"


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _require(*packages: str) -> None:
    missing = []
    for package in packages:
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise ImportError(f"ONNX export needs {', '.join(missing)}: pip install 'dynadfq[deploy]'")
