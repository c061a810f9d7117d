"""The graph of a QDQ file: a student of scheme ``integer`` with one operator per grid and layer."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dynadfq.export.conversion import tensor_shapes
from dynadfq.export.graph_edits import replace_module, tidy
from dynadfq.export.products import Geometry
from dynadfq.export.qdq_ops import convolution, fake_quantize, product
from dynadfq.graph.activation_sources import moves_values
from dynadfq.graph.activations import is_activation
from dynadfq.graph.calls import called_function, called_module, only_user
from dynadfq.graph.gaussian import clipping
from dynadfq.graph.integer_sites import JOINS
from dynadfq.ops.batch_norm import AnyBatchNorm
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.integer import SiteConstants, layer_constants, site_constants
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student

SPLITS = ("chunk", "split", "tensor_split", "unbind")  # whose results are tuples
COPIES = ("contiguous", "clone", "detach", "dropout", "dropout2d")


class Grid(nn.Module):
    """A quantized tensor: values of codes 0 … 2^bits - 1."""

    def __init__(self, constants: SiteConstants) -> None:
        super().__init__()
        self.scale = float(constants.scale)
        self.zero_point = constants.zero_point
        self.bits = constants.bits
        self.largest = 2**constants.bits - 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of the nearest codes."""
        return fake_quantize(x, self.scale, self.zero_point, self.largest)

    def clips_to(self, low: float, high: float) -> bool:
        """Return whether no code stands for a value outside low … high, but for rounding."""
        least, most = (
            round(end / self.scale) if abs(end) < float("inf") else end for end in (low, high)
        )
        return least <= -self.zero_point and self.largest - self.zero_point <= most


class IntegerLayer(nn.Module):
    """A convolution or linear layer with int8 weights, an int32 bias and scales per channel.

    Args:
        layer: the student's layer.
        norm: the BatchNorm that alone reads it, if any.
        grid: of its input.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor
    bias_scale: Tensor

    def __init__(self, layer: QuantizedLayer, norm: AnyBatchNorm | None, grid: Grid) -> None:
        super().__init__()
        step = torch.tensor(grid.scale)
        codes, scale, bias = layer_constants(layer, norm, step)
        self.bits = layer.weight_bits
        self.grid = grid
        self.geometry = Geometry.of(layer) if isinstance(layer, nn.Conv2d) else None
        self.register_buffer("codes", codes if self.geometry else codes.T.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self.register_buffer("bias_scale", step * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, …) values for the values of codes."""
        weight = (self.codes, self.scale, self.bias, self.bias_scale)
        if self.geometry is None:
            return product(x, *weight)
        stride, dilation, groups, pads, mode = self.geometry
        if mode != "constant":
            x = self.grid(F.pad(x, pads, mode=mode))
            pads = (0, 0, 0, 0)
        return convolution(x, *weight, list(stride), list(pads), list(dilation), groups)


class FloatLayer(nn.Module):
    """A layer whose input is no quantized activation, with the values of its quantized weight."""

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.layer = layer
        layer.weight = nn.Parameter(layer.quantized_weight, requires_grad=False)
        layer.quantizing = False

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, …) values."""
        y: Tensor = self.layer(x)
        return y


@torch.no_grad()
def qdq_network(student: Student) -> fx.GraphModule:
    """Return a student of scheme "integer" as a graph from (B, C, H, W) images to logits.

    Its operators are those of qdq_ops.py; whatever is not quantized stays as it is.
    """
    network = deepcopy(student.network).cpu().eval().requires_grad_(False)
    # Of maps whose channels are last, torch traces an average pool as a gathering of elements.
    network.to(memory_format=torch.contiguous_format)
    tidy(network)
    shapes = tensor_shapes(network, student.cost.trace.input_shape)
    grids: dict[fx.Node, Grid] = {}
    for node in list(network.graph.nodes):
        module = called_module(node, network)
        if isinstance(module, ActivationFakeQuantize):
            _convert_site(network, node, module, grids)
        elif isinstance(module, QuantizedLayer):
            _convert_layer(network, node, module, grids)
        elif moves_values(node, network) and called_function(node) not in JOINS:
            _keep_grid(network, node, grids, node.name in shapes)
    _return_logits(network)
    return network


def _convert_site(
    network: fx.GraphModule, node: fx.Node, site: ActivationFakeQuantize, grids: dict[fx.Node, Grid]
) -> None:
    """Let all readers of a site's values read those of its grid, without the clip before it."""
    grid = Grid(site_constants(site))
    source = node.args[0]
    assert isinstance(source, fx.Node)
    clip = called_module(source, network)
    limits = None if clip is None or not is_activation(clip) else clipping(clip)
    if limits is not None and len(source.users) == 1 and grid.clips_to(*limits):
        (source,) = source.all_input_nodes
    replace_module(network, node, grid, (source,))
    for item in list(node.users):
        if item.args[1] == 0:
            item.replace_all_uses_with(node)
            network.graph.erase_node(item)
    grids[node] = grid


def _convert_layer(
    network: fx.GraphModule, node: fx.Node, layer: QuantizedLayer, grids: dict[fx.Node, Grid]
) -> None:
    """Convert a layer together with the BatchNorm that is its only reader."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if source not in grids:
        replace_module(network, node, FloatLayer(deepcopy(layer)), (source,))
        return
    reader = only_user(node)
    norm = called_module(reader, network) if reader is not None else None
    if reader is None or not isinstance(norm, AnyBatchNorm):
        replace_module(network, node, IntegerLayer(layer, None, grids[source]), (source,))
        return
    replace_module(network, node, IntegerLayer(layer, norm, grids[source]), (source,))
    reader.replace_all_uses_with(node)
    network.graph.erase_node(reader)


def _keep_grid(
    network: fx.GraphModule, node: fx.Node, grids: dict[fx.Node, Grid], is_tensor: bool
) -> None:
    """Quantize values that were only moved to their own grid again, which changes none.

    Engines then see what they can move as codes.
    """
    source = node.all_input_nodes[0] if node.all_input_nodes else None
    if source not in grids:
        return
    grid = grids[source]
    if called_function(node) in SPLITS or _without_effect(node, network):
        grids[node] = grid
    elif is_tensor:
        name = f"{node.name}_grid"
        network.add_submodule(name, grid)
        with network.graph.inserting_after(node):
            again = network.graph.call_module(name, (node,))
        node.replace_all_uses_with(again, delete_user_cb=lambda user: user is not again)
        grids[again] = grid


def _without_effect(node: fx.Node, network: fx.GraphModule) -> bool:
    dropout = isinstance(called_module(node, network), nn.modules.dropout._DropoutNd)
    return dropout or called_function(node) in COPIES


def _return_logits(network: fx.GraphModule) -> None:
    """Remove the bit allocation from inputs and outputs."""
    graph = network.graph
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (output.args[0][0],)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.op == "placeholder" and not node.users:
            graph.erase_node(node)
    network.delete_all_unused_submodules()
    graph.lint()
    network.recompile()
