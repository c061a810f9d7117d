"""The rewriting of an integer form's graph for 8-bit kernels: codes travel as unsigned bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from dynadfq.export.channels_last import BytePool, FloatConvolution, SignedWeight
from dynadfq.export.conversion_report import Fact
from dynadfq.export.kernels import byte_layer
from dynadfq.export.modules import codes_again, values
from dynadfq.export.multiply import CodeLayer, FloatInputLayer


def to_bytes(codes: Tensor, zero_point: int) -> Tensor:
    """(B, …) codes in float32 to unsigned bytes."""
    return (codes + zero_point).to(torch.uint8)


def codes_of(codes: Tensor, zero_point: int) -> Tensor:
    """(B, …) unsigned bytes to codes in float32."""
    return codes.float() - zero_point


class ByteGraph:
    """One walk over an integer form's graph that moves layers to 8-bit kernels, in place."""

    def __init__(self, network: fx.GraphModule, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.network, self.graph, self.shapes = network, network.graph, dict(shapes)
        self.bytes: dict[
            fx.Node, tuple[fx.Node, int]
        ] = {}  # codes: the same as bytes, and the byte of code 0

    def run(self, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """Rewrite; returns the facts with the form that each layer took."""
        found = {fact.name: fact for fact in facts}
        for node in self.calls(nn.MaxPool2d):
            self.pool_codes(node)
        for node in self.calls(CodeLayer):
            name = str(node.target)
            found[name] = self.move(node, found[name])
        for codes, (codes_as_bytes, zero_point) in self.bytes.items():
            self.read_bytes(codes, codes_as_bytes, zero_point)
        self.prepare_weights()
        self.graph.eliminate_dead_code()
        self.network.delete_all_unused_submodules()
        self.graph.lint()
        self.network.recompile()
        return tuple(found.values())

    def calls(self, kind: type[nn.Module]) -> list[fx.Node]:
        """Calls of one kind of module, in order."""
        return [node for node in self.graph.nodes if self.is_a(node, kind)]

    def is_a(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and isinstance(
            self.network.get_submodule(str(node.target)), kind
        )

    def pool_codes(self, node: fx.Node) -> None:
        """Take the maximum of codes instead of that of their values, which is the same."""
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.target is not values:
            return
        codes, step = source.args
        node.args = (codes,)
        with self.graph.inserting_after(node):
            pooled = self.graph.call_function(values, (node, step))
        for user in list(node.users):
            if user.target is codes_again:
                user.replace_all_uses_with(node)
            elif user is not pooled:
                user.replace_input_with(node, pooled)

    def move(self, node: fx.Node, fact: Fact) -> Fact:
        """Put one layer on a kernel, where it can be."""
        name, codes = str(node.target), node.args[0]
        layer = self.network.get_submodule(name)
        assert isinstance(layer, CodeLayer) and isinstance(codes, fx.Node)
        fast, reason = byte_layer(layer, self.shapes[codes.name])
        if fast is None:
            return replace(fact, reason="; ".join(filter(None, (fact.reason, reason))))
        self.network.set_submodule(name, fast)
        node.replace_input_with(codes, self.as_bytes(codes, fast.zero_point))
        return replace(fact, form="bytes")

    def as_bytes(self, codes: fx.Node, zero_point: int) -> fx.Node:
        """The bytes of codes; those of a maximum are the maximum of bytes."""
        if codes not in self.bytes:
            pooled = self.is_a(codes, nn.MaxPool2d) and self.byte_pool(codes)
            inner = self.as_bytes(codes.all_input_nodes[0], zero_point) if pooled else codes
            with self.graph.inserting_after(codes):
                made = (
                    self.graph.call_module(pooled, (inner,))
                    if pooled
                    else self.graph.call_function(to_bytes, (codes, zero_point))
                )
            self.bytes[codes] = (made, zero_point)
        return self.bytes[codes][0]

    def byte_pool(self, node: fx.Node) -> str:
        """Add what pools bytes as a module pools codes; returns its name, empty where there is
        none.
        """
        pool, name = self.network.get_submodule(str(node.target)), f"{node.name}_bytes"
        assert isinstance(pool, nn.MaxPool2d)
        if not BytePool.fits(pool):
            return ""
        self.network.add_submodule(name, BytePool(pool))
        return name

    def read_bytes(self, codes: fx.Node, codes_as_bytes: fx.Node, zero_point: int) -> None:
        """Let all other readers of codes read the bytes too, so that these alone are kept in
        memory.
        """
        others = [user for user in codes.users if user is not codes_as_bytes]
        if others:
            with self.graph.inserting_after(codes_as_bytes):
                back = self.graph.call_function(codes_of, (codes_as_bytes, zero_point))
            for user in others:
                user.replace_input_with(codes, back)

    def prepare_weights(self) -> None:
        """Make weights signed once, where a kernel did not pack them, and floats' convolutions
        channels last.
        """
        for name, layer in list(self.network.named_modules()):
            if isinstance(layer, FloatInputLayer) and layer.geometry and layer.geometry.groups == 1:
                self.network.set_submodule(name, FloatConvolution(layer, layer.geometry))
            elif isinstance(layer, (CodeLayer, FloatInputLayer)):
                wide = isinstance(layer, FloatInputLayer) or layer.wide
                weight = SignedWeight(layer.weight, torch.float64 if wide else torch.float32)
                self.network.set_submodule(f"{name}.weight", weight)
