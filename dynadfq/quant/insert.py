"""From a float graph to a student's graph: quantized layers, one quantizer a site, one selector
(docs/decisions/0001).

The student's graph takes images and, optionally, a bit allocation, and returns logits and the
allocation that was used. The selector's answer is an ordinary value of the graph, handed to every
quantizer behind it; nothing is passed behind the scenes.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn

from dynadfq.graph.network import NetworkTrace, Placement
from dynadfq.ops.layers import layer_kind
from dynadfq.quant.layers import ActivationFakeQuantize, QuantConv2d, QuantizedLayer, QuantLinear
from dynadfq.quant.quantize import Granularity
from dynadfq.quant.selector import BitSelector

FIXED_SITES = 1  # after the first convolution; the selector reads the activation after the second (DynaDFQ, Sec. 4.1)
QUANTIZED: dict[str, type[QuantizedLayer]] = {"conv": QuantConv2d, "linear": QuantLinear}


@dataclass(frozen=True)
class SelectorShape:
    """Sizes of the bit selector's layers (``quantization.selector`` in params.yaml)."""

    pool: int = 8
    hidden: int = 64
    dropout: float = 0.2
    initial_bias: float = 1.0


@dataclass(frozen=True)
class Scheme:
    """How a student is quantized.

    activation_bits: candidate widths, ascending; a single one makes a student of fixed width.
    target_bits: the width whose cost is the budget.
    weight_granularity: what shares a grid of weights, an output channel or the whole tensor.
    folded: the float network had its BatchNorms folded first (models/fold.py).
    relu6_as_relu: and its ReLU6 replaced by ReLU.
    """

    weight_bits: int = 4
    activation_bits: tuple[int, ...] = (3, 4, 5)
    target_bits: int = 4
    placement: Placement = "relu_output"
    learned_ranges: bool = True
    selector: SelectorShape = SelectorShape()
    weight_granularity: Granularity = "channel"
    folded: bool = False
    relu6_as_relu: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.activation_bits) > 1


def insert_quantizers(
    model: fx.GraphModule, trace: NetworkTrace, scheme: Scheme, percent_per_bit: Tensor
) -> fx.GraphModule:
    """Turn a normalized float graph into a student's, in place, and return it.

    ``percent_per_bit`` is what a bit at each site costs, (S,) in percent of the float model's
    bit-FLOPs.

    Raises:
        ValueError: the network is too short for a bit selector, what it would read is no map, or at
            a site the first axis does not count images.
    """
    sites = trace.sites(scheme.placement)
    if scheme.dynamic and len(sites) <= FIXED_SITES:
        raise ValueError(
            f"quantization.activation_bits: the network has {len(sites)} activation sites, "
            f"a selector needs {FIXED_SITES + 1}"
        )
    if scheme.dynamic and sites[FIXED_SITES].axes != 4:
        raise ValueError(
            f"quantization.activation_bits: to choose among {list(scheme.activation_bits)}, a bit selector would read "
            f"{sites[FIXED_SITES].name}, which is no map of channels and pixels (tokens of a transformer?); give one "
            "width"
        )
    if scheme.dynamic and (folded := next((site for site in sites if site.rows > 1), None)):
        raise ValueError(
            f"quantization.activation_bits: {folded.name} has {folded.rows} rows for an image (patches in place of "
            "images?), and a width of its own for each image needs one; give one width"
        )
    graph, nodes = model.graph, {node.name: node for node in model.graph.nodes}
    allocation = _add_allocation_input(graph)
    scales: dict[str, fx.Node] = {}
    for index, site in enumerate(sites):
        source = nodes[site.node]
        if scheme.dynamic and index == FIXED_SITES:
            selector = _selector(site.channels, len(sites), scheme, percent_per_bit)
            allocation = _call_after(model, source, "selector", selector, (source, allocation))
        quantizer = ActivationFakeQuantize(index, scheme.activation_bits[-1], scheme.learned_ranges)
        after = allocation if index == FIXED_SITES and scheme.dynamic else source
        output = _call_after(model, after, f"sites.{index}", quantizer, (source, allocation))
        value = _item_after(graph, output, output, 0)
        scales[site.name] = _item_after(graph, value, output, 1)
        layers, others = _readers(nodes, trace, site.name), set(source.users) - {output, allocation}
        for reader in layers if scheme.placement == "layer_input" else others:
            reader.replace_input_with(source, value)
    _swap_layers(model, trace, scheme, nodes, scales)
    _return_allocation(graph, allocation)
    graph.lint()
    model.recompile()
    return model


def _selector(channels: int, sites: int, scheme: Scheme, percent_per_bit: Tensor) -> BitSelector:
    shape = scheme.selector
    return BitSelector(
        channels,
        sites,
        scheme.activation_bits,
        scheme.target_bits,
        FIXED_SITES,
        shape.pool,
        shape.hidden,
        shape.dropout,
        shape.initial_bias,
        percent_per_bit,
    )


def _add_allocation_input(graph: fx.Graph) -> fx.Node:
    images = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(images):
        return graph.placeholder("allocation", default_value=None)


def _call_after(
    model: fx.GraphModule, after: fx.Node, name: str, module: nn.Module, args: tuple[fx.Node, ...]
) -> fx.Node:
    model.add_submodule(name, module)
    with model.graph.inserting_after(after):
        return model.graph.call_module(name, args)


def _item_after(graph: fx.Graph, after: fx.Node, source: fx.Node, index: int) -> fx.Node:
    with graph.inserting_after(after):
        return graph.call_function(operator.getitem, (source, index))


def _readers(nodes: dict[str, fx.Node], trace: NetworkTrace, site: str) -> set[fx.Node]:
    return {nodes[layer.node] for layer in trace.layers if layer.input_site == site}


def _swap_layers(
    model: fx.GraphModule,
    trace: NetworkTrace,
    scheme: Scheme,
    nodes: dict[str, fx.Node],
    scales: dict[str, fx.Node],
) -> None:
    """Quantize every layer's weight, and tell each that reads a single site which step its input
    lies on.
    """
    for layer in trace.layers:
        old = model.get_submodule(layer.name)
        kind = layer_kind(old)
        if kind is not None:
            model.set_submodule(
                layer.name,
                QUANTIZED[kind].from_float(old, scheme.weight_bits, scheme.weight_granularity),
            )
        if scale := _single_scale(layer.input_site, layer.fed_by, scales):
            nodes[layer.node].args = (nodes[layer.node].args[0], scale)


def _single_scale(
    input_site: str | None, fed_by: Mapping[str, float], scales: dict[str, fx.Node]
) -> fx.Node | None:
    if input_site in scales:
        return scales[input_site]
    full = [name for name, share in fed_by.items() if share == 1.0]
    return scales.get(full[0]) if full else None


def _return_allocation(graph: fx.Graph, allocation: fx.Node) -> None:
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0], allocation),)


def site_nodes(model: nn.Module) -> Sequence[ActivationFakeQuantize]:
    """A student's quantizers in the order of their sites."""
    return sorted(
        (m for m in model.modules() if isinstance(m, ActivationFakeQuantize)),
        key=lambda module: module.site,
    )
