"""The ONNX model of a integer form: integer initializers, the budget as an input that may be left
out, metadata.
"""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from dynadfq.export.integer_form import IntegerForm
from dynadfq.export.multiply import WeightCodes
from dynadfq.export.program import Served, described, example
from dynadfq.quant.model import Student

if TYPE_CHECKING:
    import onnx_ir

OnnxForm = Literal["codes", "convinteger"]
OPSET = 21  # the first with 4-bit integers
FOLDED = 64  # values: what is larger stays an integer initializer with a Cast behind it


def onnx_model(codes: IntegerForm, student: Student, form: OnnxForm) -> tuple[bytes, list[str]]:
    """The serialized model, and the layers that kept the form "codes"."""
    import onnx_ir
    from onnxscript.optimizer import optimize_ir

    from dynadfq.export.integer_ops import translations, with_integer_products

    network = deepcopy(codes.network)
    kept = with_integer_products(network) if form == "convinteger" else []
    inputs, axes = example(codes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Served(network, codes.dynamic),
            inputs,
            dynamo=True,
            dynamic_shapes=axes,
            input_names=["images", "multiplier"][: len(inputs)],
            output_names=["logits", "bits"],
            opset_version=OPSET,
            optimize=False,  # with its own limits it would fold integer weights to floats
            verbose=False,
            custom_translation_table=translations(),
        )
    assert program is not None
    model = program.model
    optimize_ir(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    _narrow(
        model, {name: m.bits for name, m in network.named_modules() if isinstance(m, WeightCodes)}
    )
    _multiplier_by_default(model, student.multiplier)
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


def _multiplier_by_default(model: onnx_ir.Model, multiplier: float) -> None:
    """Where the budget stands if a caller gives no multiplier: an input that is an initializer too
    may be left out.
    """
    import onnx_ir

    for value in model.graph.inputs:
        if value.name == "multiplier":
            value.const_value = onnx_ir.tensor(
                np.array(multiplier, dtype=np.float64), name="multiplier"
            )
            model.graph.initializers["multiplier"] = value


def _describe(model: onnx_ir.Model, student: Student) -> None:
    """What a user of the file has to know, as metadata; the exporter's notes on every node go."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props["dynadfq"] = json.dumps(described(student), sort_keys=True)
    model.producer_name = "dynadfq"
