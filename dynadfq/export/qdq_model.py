"""The ONNX model of a QDQ file: integer weights, names of the student's modules, metadata."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from dynadfq.export.onnx_model import FOLDED, set_metadata, traced
from dynadfq.export.qdq_graph import FloatLayer, IntegerLayer, qdq_network
from dynadfq.export.qdq_ops import translations
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.integer import saturates
from dynadfq.quant.model import Student

if TYPE_CHECKING:  # onnx_ir is an optional dependency, imported where it is used
    import onnx_ir

InputKind = Literal["float32", "uint8"]
SCOPES = "pkg.torch.onnx.name_scopes"  # what torch notes on a node: the modules it is called in


class QdqModel(NamedTuple):
    """The model of a QDQ file.

    content: serialized.
    floats: names of the layers that read no quantized activation.
    saturating: names of the layers whose sums processors without VNNI may compute wrong.
    """

    content: bytes
    floats: set[str]
    saturating: list[str]


class FromPixels(nn.Module):
    """Normalization of pixels."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, C, H, W) normalized images of uint8 pixels."""
        return self.preprocessing.normalize(pixels)


def read_pixels(network: fx.GraphModule, preprocessing: Preprocessing) -> None:
    """Let a graph read uint8 pixels in place of normalized images."""
    images = next(node for node in network.graph.nodes if node.op == "placeholder")
    network.add_submodule("from_pixels", FromPixels(preprocessing))
    with network.graph.inserting_after(images):
        normalized = network.graph.call_module("from_pixels", (images,))
    images.replace_all_uses_with(normalized, delete_user_cb=lambda user: user is not normalized)
    network.recompile()


def qdq_model(student: Student, input: InputKind = "float32") -> QdqModel:
    """Return the model of a student of scheme "integer".

    Args:
        student: the student.
        input: "float32" for normalized images, "uint8" for pixels.
    """
    import onnx_ir
    from onnxscript.optimizer import optimize_ir

    network = qdq_network(student)
    pixels = input == "uint8"
    if pixels:
        read_pixels(network, student.preprocessing)
    shape = (2, *student.cost.trace.input_shape)
    example = torch.zeros(shape, dtype=torch.uint8 if pixels else torch.float32)
    # With its own limits, torch's optimizer would fold integer weights to floats.
    options: dict[str, Any] = {"optimize": False, "custom_translation_table": translations()}
    axes = ({0: torch.export.Dim("batch")},)
    model = traced(network, (example,), axes, (["images"], ["logits"]), **options).model
    optimize_ir(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    _name_nodes(model)
    _separate_zero_points(model)
    layers = list(network.named_modules())
    integer = {name: m for name, m in layers if isinstance(m, IntegerLayer)}
    _store_in_4_bits(model, {name for name, m in integer.items() if m.bits <= 4})
    set_metadata(model, student)
    content: bytes = onnx_ir.to_proto(model).SerializeToString()
    floats = {name for name, m in layers if isinstance(m, FloatLayer)}
    saturating = [name for name, m in integer.items() if saturates(m.codes, m.grid.bits)]
    return QdqModel(content, floats, saturating)


def _name_nodes(model: onnx_ir.Model) -> None:
    """Name nodes after the modules that they were called in, such as layer1.0.conv1/Conv."""
    used: dict[str, int] = {}
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "['']"))
        name = f"{_module_of(scopes)}/{node.op_type}"
        used[name] = used.get(name, 0) + 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"


def _module_of(scopes: list[str]) -> str:
    return scopes[-2] if len(scopes) > 1 else scopes[-1]


def _separate_zero_points(model: onnx_ir.Model) -> None:
    """Give each weight its own zero point; the optimizer merges equal ones.

    With its option for exact sums, onnxruntime cannot run a file in which weights share one.
    """
    import onnx_ir

    for node in model.graph:
        if node.op_type != "DequantizeLinear" or len(node.inputs) < 3:
            continue
        codes, _, zero = node.inputs
        if codes is None or zero is None or not codes.is_initializer() or len(zero.uses()) == 1:
            continue
        assert codes.name is not None and zero.const_value is not None
        name = f"{codes.name.removesuffix('.codes')}.zero_point"
        own = onnx_ir.Value(
            name=name, const_value=onnx_ir.tensor(zero.const_value.numpy(), name=name)
        )
        model.graph.initializers.setdefault(name, own)
        node.replace_input_with(2, model.graph.initializers[name])


def _store_in_4_bits(model: onnx_ir.Model, layers: set[str]) -> None:
    """Store the weights of layers as 4-bit integers, which engines widen on loading."""
    import ml_dtypes
    import onnx_ir

    for name, value in list(model.graph.initializers.items()):
        owner = name.removesuffix(".codes")
        if owner not in layers or owner == name:
            continue
        assert value.const_value is not None
        narrow = onnx_ir.tensor(value.const_value.numpy().astype(ml_dtypes.int4), name=name)
        stored = onnx_ir.Value(name=name, const_value=narrow)
        cast = onnx_ir.node("Cast", [stored], {"to": onnx_ir.DataType.INT8}, name=f"{owner}/Cast")
        for user, index in tuple(value.uses()):
            user.replace_input_with(index, cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.initializers[name] = stored
        model.graph.insert_before(model.graph[0], cast)
