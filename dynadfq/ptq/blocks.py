"""Blocks of a student's graph: the stretches between values through which everything passes.

A block begins before an activation quantizer, or a layer, and ends with the last value before the
next one, such that one tensor goes in and one comes out: a residual block, or a convolution with
its BatchNorm and activation (BRECQ, Li et al., ICLR 2021, arXiv 2102.05426, Sec. 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from dynadfq.graph.calls import called_module
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.quant.selector import BitSelector


@dataclass(frozen=True)
class Block:
    """A part of a student's graph with one input and one output.

    source: the node whose value the block reads.
    nodes: its nodes in the order of execution; the value of the last one is the block's output.
    layers: names of the layers with quantized weights, each at its first call in the graph.
    """

    source: fx.Node
    nodes: tuple[fx.Node, ...]
    layers: tuple[str, ...]

    @property
    def end(self) -> fx.Node:
        """The node whose value is the block's output."""
        return self.nodes[-1]


def blocks(student: Student) -> list[Block]:
    """Return the blocks of a student in the order of execution; each layer is in one of them."""
    nodes = [node for node in student.network.graph.nodes if node.op != "output"]
    images = next(node for node in nodes if node.op == "placeholder")
    found: list[Block] = []
    rounded: set[str] = set()
    source, members = images, list[fx.Node]()
    for stretch in _stretches(student, nodes):
        if _layers(student, members) and _reads_or_quantizes(student, stretch):
            found.append(_block(student, source, members, rounded))
            source, members = members[-1], []
        members += stretch
    if _layers(student, members):
        found.append(_block(student, source, members, rounded))
    return found


def _block(student: Student, source: fx.Node, members: list[fx.Node], rounded: set[str]) -> Block:
    """A block with the layers that no earlier block has; they are added to ``rounded``."""
    names = dict.fromkeys(_layers(student, members))
    first = tuple(name for name in names if name not in rounded)
    rounded.update(first)
    return Block(source, tuple(members), first)


def _stretches(student: Student, nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """The nodes after the images, cut wherever a single value of the network is still to be read.

    Bit allocations are not values of the network.
    """
    position = {node: index for index, node in enumerate(nodes)}
    end = len(nodes)
    last_read = {
        node: max((position.get(user, end) for user in node.users), default=-1) for node in nodes
    }
    images = next(node for node in nodes if node.op == "placeholder")
    passed_by = allocations(student)
    stretches: list[list[fx.Node]] = []
    stretch: list[fx.Node] = []
    live = {images}
    for index, node in enumerate(nodes):
        if node.op == "placeholder":
            continue
        stretch.append(node)
        if node not in passed_by:
            live.add(node)
        live = {value for value in live if last_read[value] > index}
        if live == {node}:
            stretches.append(stretch)
            stretch = []
    return stretches


def allocations(student: Student) -> list[fx.Node]:
    """Return the nodes whose values are bit allocations: the graph's input, and the selector's."""
    _, given = (node for node in student.network.graph.nodes if node.op == "placeholder")
    calls = (
        node
        for node in student.network.graph.nodes
        if isinstance(called_module(node, student.network), BitSelector)
    )
    return [given, *calls]


def _layers(student: Student, nodes: list[fx.Node]) -> list[str]:
    return [
        str(node.target)
        for node in nodes
        if isinstance(called_module(node, student.network), QuantizedLayer)
    ]


def _reads_or_quantizes(student: Student, nodes: list[fx.Node]) -> bool:
    return any(
        isinstance(called_module(node, student.network), (QuantizedLayer, ActivationFakeQuantize))
        for node in nodes
    )
