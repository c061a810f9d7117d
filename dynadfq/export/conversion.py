"""The walk that turns a student's graph into integer form."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from dynadfq.export.conversion_report import Fact
from dynadfq.export.layers import code_layer, norm_multiplier
from dynadfq.export.modules import (
    ActivationCodes,
    ForEachImage,
    ScaleShift,
    StartingBits,
    codes_again,
    values,
)
from dynadfq.export.multiply import CodeLayer
from dynadfq.export.safe import safe_function, safe_module
from dynadfq.export.selector import selector_codes
from dynadfq.quant.layers import ActivationFakeQuantize, QuantizedLayer
from dynadfq.quant.selector import BitSelector


def tensor_shapes(network: fx.GraphModule, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the graph for one image, by node name."""
    found: dict[str, tuple[int, ...]] = {}

    class Converter(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            output = super().run_node(n)
            if isinstance(output, Tensor):
                found[n.name] = tuple(output.shape)
            return output

    Converter(network).run(torch.zeros(1, *shape), None)
    return found


class Conversion:
    """One walk over a student's graph that replaces each module by its integer form, in place."""

    def __init__(
        self,
        network: fx.GraphModule,
        widths: tuple[int, ...],
        widest: int,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self.network, self.graph, self.shapes = network, network.graph, shapes
        self.widths, self.widest = widths, widest
        self.facts: list[Fact] = []
        self.codes: dict[
            fx.Node, tuple[fx.Node, fx.Node]
        ] = {}  # a site's value in the old graph: its codes and step

    def run(self, sites: int) -> None:
        images, given = (node for node in self.graph.nodes if node.op == "placeholder")
        images.name, images.target, given.name, given.target = "images", "images", "bits", "bits"
        with self.graph.inserting_after(given):
            self.multiplier = self.graph.placeholder("multiplier", default_value=None)
        self.start = self.start_of(images, given, sites)
        for node in [node for node in self.graph.nodes if node is not self.start]:
            if node.op == "call_module":
                self.convert_module(node)
            elif node.op in ("call_function", "call_method"):
                self.facts += safe_function(self.network, node, self.shapes)
        self.answer(images)
        self.graph.eliminate_dead_code()
        self.network.delete_all_unused_submodules()
        self.graph.lint()
        self.network.recompile()

    def start_of(self, images: fx.Node, given: fx.Node, sites: int) -> fx.Node:
        """Put the widths that hold before the selector in front of all readers of the given
        ones.
        """
        readers = list(given.users)
        start = self.call_after(
            self.multiplier, "starting_bits", StartingBits(sites, self.widths[-1]), (given,)
        )
        for reader in readers:
            if not self.is_a(reader, BitSelector):
                reader.replace_input_with(given, start)
        return start

    def answer(self, images: fx.Node) -> None:
        output = next(node for node in self.graph.nodes if node.op == "output")
        logits, bits = output.args[0]
        with self.graph.inserting_before(output):
            self.network.add_submodule("for_each_image", ForEachImage())
            every = self.graph.call_module("for_each_image", (bits, images))
        output.args = ((logits, every),)

    def convert_module(self, node: fx.Node) -> None:
        module = self.network.get_submodule(str(node.target))
        if isinstance(module, ActivationFakeQuantize):
            self.convert_site(node, module)
        elif isinstance(module, BitSelector):
            source, given = node.args
            assert isinstance(source, fx.Node)
            self.replace(
                node,
                selector_codes(module, self.shapes[source.name]),
                (source, self.start, given, self.multiplier),
            )
            self.facts.append(Fact(str(node.target), "float64", reason="the selector reads floats"))
        elif isinstance(module, QuantizedLayer):
            self.convert_layer(node, module)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            gain, shift = norm_multiplier(module)
            self.replace(node, ScaleShift(gain, shift), node.args)
        else:
            self.facts += safe_module(self.network, node, self.shapes)

    def convert_site(self, node: fx.Node, site: ActivationFakeQuantize) -> None:
        """Codes for the layers that read the site itself, values for all others."""
        self.replace(node, ActivationCodes(site), node.args)
        old = {item.args[1]: item for item in node.users}
        codes, step = old[0], old.get(1)
        if step is None:
            with self.graph.inserting_after(codes):
                step = self.graph.call_function(operator.getitem, (node, 1))
        self.codes[codes] = (codes, step)
        others = [user for user in codes.users if not self.reads_codes(user, codes)]
        if others:
            with self.graph.inserting_after(step):
                value = self.graph.call_function(values, (codes, step))
            self.shapes[value.name] = self.shapes[codes.name]
            for user in others:
                user.replace_input_with(codes, value)

    def reads_codes(self, node: fx.Node, codes: fx.Node) -> bool:
        """Whether a node is a layer that multiplies the very codes of a site."""
        return self.is_a(node, QuantizedLayer) and node.args[0] is codes and len(node.args) > 1

    def convert_layer(self, node: fx.Node, layer: QuantizedLayer) -> None:
        norm = self.following_norm(node)
        module, fact = code_layer(
            str(node.target), layer, self.norm_of(norm), self.codes_read(node)
        )
        source, *step = node.args
        if isinstance(module, CodeLayer) and source not in self.codes:
            with self.graph.inserting_before(node):
                source = self.graph.call_function(codes_again, (source, step[0]))
        self.replace(node, module, (source, *step))
        self.facts.append(fact)
        if norm is not None:
            norm.replace_all_uses_with(node)
            self.graph.erase_node(norm)

    def codes_read(self, node: fx.Node) -> tuple[int, int] | None:
        """The smallest and the largest code that a layer reads, at any candidate; None where it
        reads floats.
        """
        if len(node.args) < 2:
            return None
        step = node.args[1]
        assert isinstance(step, fx.Node) and isinstance(step.args[0], fx.Node)
        site = self.network.get_submodule(str(step.args[0].target))
        assert isinstance(site, ActivationCodes)
        ends = [site.codes_at(bits) for bits in {*self.widths, self.widest}]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def following_norm(self, node: fx.Node) -> fx.Node | None:
        """The BatchNorm call that alone reads a layer's output."""
        users = list(node.users)
        if len(users) != 1 or not self.is_a(users[0], nn.modules.batchnorm._BatchNorm):
            return None
        calls = sum(
            other.target == node.target for other in self.graph.nodes if other.op == "call_module"
        )
        return users[0] if calls == 1 else None

    def norm_of(self, node: fx.Node | None) -> nn.modules.batchnorm._BatchNorm | None:
        if node is None:
            return None
        norm = self.network.get_submodule(str(node.target))
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        return norm

    def is_a(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and isinstance(
            self.network.get_submodule(str(node.target)), kind
        )

    def replace(self, node: fx.Node, module: nn.Module, args: Any) -> None:
        """Give a call another module, under the same name where no other call needs the old one."""
        name = str(node.target)
        if sum(other.target == name for other in self.graph.nodes if other.op == "call_module") > 1:
            name = f"{name}_{node.name}"
        self.network.add_submodule(name, module)
        node.target, node.args, node.kwargs = name, tuple(args), {}

    def call_after(
        self, after: fx.Node, name: str, module: nn.Module, args: tuple[fx.Node, ...]
    ) -> fx.Node:
        self.network.add_submodule(name, module)
        with self.graph.inserting_after(after):
            return self.graph.call_module(name, args)
