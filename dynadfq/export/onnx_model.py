"""The ONNX model of an integer form: integer initializers, an optional multiplier, metadata."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dynadfq.export.integer_form import IntegerForm
from dynadfq.export.multiply import WeightCodes
from dynadfq.export.program import Served, described, example
from dynadfq.quant.model import Student

if TYPE_CHECKING:  # onnx_ir is an optional dependency, imported where it is used
    import onnx_ir

OPSET = 21  # the first with 4-bit integers
FOLDED = 64  # values; larger constants stay integer initializers with a Cast after them


def traced(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    axes: tuple[dict[int, torch.export.Dim], ...],
    names: tuple[list[str], list[str]],
    **options: Any,
) -> torch.onnx.ONNXProgram:
    """Return a network as an ONNX program.

    Args:
        network: in eval mode.
        inputs: an example of its inputs.
        axes: their axes of variable size.
        names: of inputs and outputs.
        options: of ``torch.onnx.export``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            dynamic_shapes=axes,
            input_names=names[0],
            output_names=names[1],
            opset_version=OPSET,
            verbose=False,
            **options,
        )
    assert program is not None
    return program


def onnx_model(integer_form: IntegerForm, student: Student) -> bytes:
    """Return the serialized model."""
    import onnx_ir
    from onnxscript.optimizer import optimize_ir

    network = integer_form.network
    inputs, axes = example(integer_form)
    names = (["images", "multiplier"][: len(inputs)], ["logits", "bits"])
    # With its own limits, torch's optimizer would fold integer weights to floats.
    served = Served(network, integer_form.dynamic)
    model = traced(served, inputs, axes, names, optimize=False).model
    optimize_ir(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    weights = {name: m.bits for name, m in network.named_modules() if isinstance(m, WeightCodes)}
    _store_in_4_bits(model, weights)
    _set_default_multiplier(model, student.multiplier)
    set_metadata(model, student)
    content: bytes = onnx_ir.to_proto(model).SerializeToString()
    return content


def _store_in_4_bits(model: onnx_ir.Model, bits: dict[str, int]) -> None:
    """Store weight codes of up to 4 bits as 4-bit integers."""
    import ml_dtypes
    import onnx_ir

    for name, value in model.graph.initializers.items():
        owner = name.removeprefix("network.").removesuffix(".codes")
        if name.endswith(".codes") and bits.get(owner, 8) <= 4 and value.const_value is not None:
            codes = value.const_value.numpy().astype(ml_dtypes.uint4)
            value.const_value = onnx_ir.tensor(codes, name=name)
            value.dtype = onnx_ir.DataType.UINT4


def _set_default_multiplier(model: onnx_ir.Model, multiplier: float) -> None:
    """Make the multiplier an initializer as well, so that callers may leave the input out."""
    import onnx_ir

    for value in model.graph.inputs:
        if value.name == "multiplier":
            value.const_value = onnx_ir.tensor(
                np.array(multiplier, dtype=np.float64), name="multiplier"
            )
            model.graph.initializers["multiplier"] = value


def set_metadata(model: onnx_ir.Model, student: Student) -> None:
    """Write the file's facts as metadata, and remove the exporter's notes on every node."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props["dynadfq"] = json.dumps(described(student), sort_keys=True)
    model.producer_name = "dynadfq"
    model.doc_string = (
        f"{student.description.get('architecture') or 'A classifier'}, quantized: "
        f"weights of {student.scheme.weight_bits} bits, activations of "
        f"{' / '.join(map(str, student.scheme.activation_bits))}. The metadata key dynadfq says "
        "how images are prepared."
    )
