"""The conversion of a student's graph to integer form, module by module."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from dynadfq.export.conversion_report import Fact
from dynadfq.export.graph_edits import replace_module
from dynadfq.export.layers import code_layer, requantized_layer, selector_codes
from dynadfq.export.modules import (
    ActivationCodes,
    ForEachImage,
    ScaleShift,
    StartingBits,
    codes_again,
    values,
)
from dynadfq.export.multiply import CodeLayer
from dynadfq.export.requantize import (
    IntegerLayer,
    RequantizedCodes,
    after_layer,
    values_of_sums,
)
from dynadfq.export.safe import safe_function, safe_module
from dynadfq.graph.calls import called_module, only_user
from dynadfq.graph.config import FLOAT_BITS
from dynadfq.ops.batch_norm import AnyBatchNorm, gain_and_shift
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.selector import BitSelector


def tensor_shapes(network: fx.GraphModule, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of the graph for one image of (C, H, W), by node name."""
    ShapeProp(network).propagate(torch.zeros(1, *shape), None)
    found = {node.name: node.meta.pop("tensor_meta", None) for node in network.graph.nodes}
    return {
        name: tuple(meta.shape) for name, meta in found.items() if isinstance(meta, TensorMetadata)
    }


class Conversion:
    """One pass over a student's graph that replaces each module by its integer form, in place.

    Args:
        network: a copy of a student's network.
        widths: candidate widths in bits, ascending; 32 alone where activations are float32.
        widest: the largest width that sums must be exact for, in bits; at sites that always have
            8 bits, these are.
        shapes: shapes of the graph's tensors, by node name.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        widths: tuple[int, ...],
        widest: int,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self.network = network
        self.graph = network.graph
        self.widths = widths
        self.widest = widest
        self.floats = widths == (FLOAT_BITS,)
        self.shapes = shapes
        self.facts: list[Fact] = []
        self.scales: dict[fx.Node, fx.Node] = {}  # a site's codes: their scale
        self.merged: set[fx.Node] = set()  # calls that became part of a layer

    def run(self, bits: Tensor) -> None:
        """Convert the graph of a student that starts with (S,) widths."""
        images, given = (node for node in self.graph.nodes if node.op == "placeholder")
        for node, name in ((images, "images"), (given, "bits")):
            node.name = name
            node.target = name
        with self.graph.inserting_after(given):
            self.multiplier = self.graph.placeholder("multiplier", default_value=None)
        self.start = self.add_starting_bits(given, bits)
        for node in list(self.graph.nodes):
            if node is self.start or node in self.merged:
                continue
            module = called_module(node, self.network)
            if module is not None:
                self.convert_module(node, module)
            elif node.op in ("call_function", "call_method"):
                self.facts += safe_function(self.network, node, self.shapes, self.floats)
        self.set_output(images)
        self.graph.eliminate_dead_code()
        self.network.delete_all_unused_submodules()
        self.graph.lint()
        self.network.recompile()

    def add_starting_bits(self, given: fx.Node, bits: Tensor) -> fx.Node:
        """Let all readers of the given widths, except the selector, read the starting widths."""
        readers = [node for node in given.users if not self.calls(node, BitSelector)]
        self.network.add_submodule("starting_bits", StartingBits(bits))
        with self.graph.inserting_after(self.multiplier):
            start = self.graph.call_module("starting_bits", (given,))
        for reader in readers:
            reader.replace_input_with(given, start)
        return start

    def set_output(self, images: fx.Node) -> None:
        """Return logits and the widths of each image."""
        output = next(node for node in self.graph.nodes if node.op == "output")
        logits, bits = output.args[0]
        self.network.add_submodule("for_each_image", ForEachImage())
        with self.graph.inserting_before(output):
            every = self.graph.call_module("for_each_image", (bits, images))
        output.args = ((logits, every),)

    def convert_module(self, node: fx.Node, module: nn.Module) -> None:
        """Convert one call of a module."""
        if isinstance(module, ActivationFakeQuantize):
            read = called_module(node.all_input_nodes[0], self.network)
            requantizes = isinstance(read, IntegerLayer)
            self.convert_site(node, (RequantizedCodes if requantizes else ActivationCodes)(module))
        elif isinstance(module, BitSelector):
            self.convert_selector(node, module)
        elif isinstance(module, QuantizedLayer) and module.symmetric and len(node.args) > 1:
            self.convert_integer_layer(node, module)
        elif isinstance(module, QuantizedLayer):
            self.convert_layer(node, module)
        elif isinstance(module, AnyBatchNorm):
            replace_module(self.network, node, ScaleShift(*gain_and_shift(module)))
        else:
            self.facts += safe_module(self.network, node, self.shapes, self.floats)

    def convert_selector(self, node: fx.Node, selector: BitSelector) -> None:
        """Convert the bit selector."""
        source, given = node.args
        assert isinstance(source, fx.Node)
        converted = selector_codes(selector, self.shapes[source.name])
        args = (source, self.start, given, self.multiplier)
        replace_module(self.network, node, converted, args)
        self.facts.append(Fact(str(node.target), "float64", reason="the selector reads floats"))

    def convert_site(self, node: fx.Node, site: ActivationCodes) -> None:
        """Give codes to the layers that read the site itself, values to all others."""
        replace_module(self.network, node, site)
        items = {item.args[1]: item for item in node.users}
        codes = items[0]
        scale = items.get(1)
        if scale is None:
            with self.graph.inserting_after(codes):
                scale = self.graph.call_function(operator.getitem, (node, 1))
        self.scales[codes] = scale
        others = [user for user in codes.users if not self.reads_codes(user, codes)]
        if others:
            with self.graph.inserting_after(scale):
                value = self.graph.call_function(values, (codes, scale))
            self.shapes[value.name] = self.shapes[codes.name]
            for user in others:
                user.replace_input_with(codes, value)

    def reads_codes(self, node: fx.Node, codes: fx.Node) -> bool:
        """Whether a node is a layer that multiplies the codes of a site as they are."""
        return self.calls(node, QuantizedLayer) and node.args[0] is codes and len(node.args) > 1

    def convert_layer(self, node: fx.Node, layer: QuantizedLayer) -> None:
        """Convert one layer together with the BatchNorm that is its only reader."""
        reader = self.following_norm(node)
        norm = cast(AnyBatchNorm, called_module(reader, self.network)) if reader else None
        reads = self.codes_read(self.site_read(node)) if len(node.args) > 1 else None
        module, fact = code_layer(str(node.target), layer, norm, reads)
        self.replace_layer(node, module, fact)
        if reader is not None:
            self.merge(node, reader)

    def convert_integer_layer(self, node: fx.Node, layer: QuantizedLayer) -> None:
        """Convert one layer of scheme ``integer`` with what belongs to it, up to the next site."""
        reader, merged, requantized = after_layer(self.network, node)
        norm = cast(AnyBatchNorm, called_module(reader, self.network)) if reader else None
        site = self.site_read(node)
        own, finest = (site.qparams(bits)[0] for bits in (site.own, site.always or self.widest))
        name = str(node.target)
        module, fact = requantized_layer(name, layer, norm, self.codes_read(site), own, finest)
        self.replace_layer(node, module, fact)
        for other in merged:
            self.merge(node, other)
        if not requantized:
            with self.graph.inserting_after(node):
                value = self.graph.call_function(values_of_sums, (node,))
            node.replace_all_uses_with(value, delete_user_cb=lambda user: user is not value)
            self.shapes[value.name] = self.shapes[node.name]

    def replace_layer(self, node: fx.Node, module: nn.Module, fact: Fact) -> None:
        """Let a layer's call use another module, on codes if it multiplies codes."""
        source, *scale = node.args
        if isinstance(module, CodeLayer) and source not in self.scales:
            with self.graph.inserting_before(node):
                source = self.graph.call_function(codes_again, (source, scale[0]))
        replace_module(self.network, node, module, (source, *scale))
        self.facts.append(fact)

    def merge(self, layer: fx.Node, node: fx.Node) -> None:
        """Remove a call that has become part of the layer before it."""
        node.replace_all_uses_with(layer)
        self.graph.erase_node(node)
        self.merged.add(node)

    def site_read(self, node: fx.Node) -> ActivationCodes:
        """Return the site whose codes a layer reads."""
        scale = node.args[1]
        assert isinstance(scale, fx.Node)
        site = called_module(scale.all_input_nodes[0], self.network)
        assert isinstance(site, ActivationCodes)
        return site

    def codes_read(self, site: ActivationCodes) -> tuple[int, int]:
        """Return the extreme codes of a site at any candidate."""
        widths = {site.always} if site.always else {*self.widths, self.widest}
        ranges = [site.code_range(bits) for bits in widths]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def following_norm(self, node: fx.Node) -> fx.Node | None:
        """Return the BatchNorm call that is the only reader of a layer that is called once."""
        user = only_user(node)
        if user is None or not self.calls(user, AnyBatchNorm):
            return None
        calls = self.graph.find_nodes(op="call_module", target=node.target)
        return user if len(calls) == 1 else None

    def calls(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        """Whether a node calls a module of that kind."""
        return isinstance(called_module(node, self.network), kind)
